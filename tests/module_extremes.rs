//! Requests and processes at the far end of what nginx allows: a body of a gigabyte, a connection that
//! becomes something else, 64 workers, workers of another user.

mod module_common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use module_common::{KEY, Plan, Site, policy, record_values, records_in};
use weir_testbed::wait;

const ON: &str = "location / { weir on; try_files /index.html =404; }";
const PATIENCE: Duration = Duration::from_secs(300);

/// Fault 21: nginx reads it and throws it away, and the connection stays in step.
#[test]
fn a_refused_body_of_a_gigabyte_is_thrown_away() {
    let server = format!("client_max_body_size 0; lingering_time 10m; lingering_timeout 1m; {ON}");
    let mut site = Plan::new(&policy("\"0 requests/hour\""), &server).start();
    let mut stream = site.connect();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("Host: a\r\nX-Api-Key: {KEY}\r\n");
    write!(stream, "POST / HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n").unwrap();
    let piece = [b"100000\r\n".as_slice(), &vec![b'x'; 1 << 20], b"\r\n"].concat();
    for _ in 0..1024 {
        stream.write_all(&piece).unwrap();
    }
    write!(stream, "0\r\n\r\nHEAD / HTTP/1.1\r\n{head}Connection: close\r\n\r\n").unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 429 ").count(), 2, "{answers}");
    drop(stream);
    site.assert_quiet();
    site.close();
    assert_eq!(records_in(site.dir()), 2);
}

/// Answers 101 and sends back whatever comes.
fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        head_of(&mut peer);
        peer.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
            .unwrap();
        let mut copy = peer.try_clone().unwrap();
        // It ends with the connection.
        let _ = std::io::copy(&mut peer, &mut copy);
    });
    port
}

/// Reads to the end of a head.
fn head_of(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Fault 22: it is one request, booked when it is over, with all that went to the client.
#[test]
fn a_connection_that_is_upgraded_is_one_request_with_all_its_bytes() {
    let server = format!(
        "location / {{ weir on; proxy_pass http://127.0.0.1:{}; proxy_http_version 1.1; \
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}",
        echo()
    );
    let mut site = Plan::new(&policy("\"5 requests/hour\", \"1 GB/hour\""), &server).start();
    let mut stream = site.connect();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("Host: a\r\nX-Api-Key: {KEY}\r\n");
    write!(stream, "GET / HTTP/1.1\r\n{head}Upgrade: echo\r\nConnection: Upgrade\r\n\r\n").unwrap();
    let told = head_of(&mut stream);
    assert!(told.starts_with("HTTP/1.1 101 ") && told.contains("RateLimit: "), "{told}");
    let mut back = [0; 1000];
    for n in 0..100 {
        stream.write_all(&[n; 1000]).unwrap();
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, [n; 1000]);
    }
    drop(stream);
    site.close();
    let records = record_values(site.dir());
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!((&records[0]["status"], &records[0]["decision"]), (&101.into(), &"PASSED".into()));
    assert!(records[0]["bytes_out"].as_u64().unwrap() > 100_000, "{records:?}");
}

/// Fault 30. The spool is left out: it would take two segments of disk for each worker.
#[test]
fn sixty_four_workers_keep_one_count() {
    let plan = Plan::new(&policy("\"50 requests/hour\""), ON).workers(64);
    let (dir, port) = plan.lay_out();
    let site = Site::start(dir, port, &plan.config(port).replace("weir_spool spool seal=1s;", ""));
    let all = || site.nginx.workers().len() == 64;
    assert!(wait::until(PATIENCE, all), "{:?}", site.nginx.workers());
    // Each over a connection of its own, so that many workers have a part in it.
    let statuses: Vec<u16> = (0..200).map(|_| site.get("/").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 50);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 150);
    site.assert_quiet();
}

/// Fault 30. Who is not root has workers of its own user alone, and tries that.
#[test]
fn workers_of_another_user_limit_and_book() {
    let plan = Plan::new(&policy("\"5 requests/hour\""), ON);
    let (dir, port) = plan.lay_out();
    for folder in [dir.path().to_owned(), dir.path().join("html")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let config = plan.config(port).replace("user root;", "user www-data;");
    let mut site = Site::start(dir, port, &config);
    let statuses = [(); 6].map(|()| site.get("/").status);
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    site.assert_quiet();
    site.close();
    assert_eq!(records_in(site.dir()), 6);
}
