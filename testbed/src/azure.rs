//! A server that speaks Azure's blob storage (Azurite), in memory.

use std::process::Command;
use std::time::Duration;

use crate::http::Request;
use crate::process::Process;
use crate::{StartError, TempDir, parts, ports, temp_dir};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// A store of its own with one container, of the account that every emulator has.
pub struct Azure {
    port: u16,
    process: Process,
    _dir: TempDir,
}

impl Azure {
    pub fn start(container: &str) -> Result<Azure, StartError> {
        let (dir, port) = (temp_dir(), ports::free());
        let mut command = Command::new("node");
        command.arg(parts::azurite()?).args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
        command.args(["--inMemoryPersistence", "--disableTelemetry", "--silent"]).current_dir(dir.path());
        let mut process = Process::spawn("azurite", command, &dir.path().join("azure.log"))?;
        process.ready(READY_WITHIN, || Request::get(port, "/").send().is_ok())?;
        let mut maker = Command::new(parts::program("Python", "/usr/bin/python3")?);
        maker.arg(parts::root().join("testbed/azure/make_container.py")).args([&port.to_string(), container]);
        let output = maker.output().map_err(StartError::io("making the container"))?;
        if !output.status.success() {
            let (name, status) = ("make_container.py".to_owned(), output.status.to_string());
            let log = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(StartError::Ended { name, status, log });
        }
        Ok(Azure { port, process, _dir: dir })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
