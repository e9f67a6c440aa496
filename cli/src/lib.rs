//! The `weir` command: one file per command.

mod alerts;
mod apply;
mod audit;
mod cat;
mod check;
mod client;
mod clock;
mod collect;
mod columns;
mod config;
mod doctor;
mod enforce;
mod explain;
mod export;
mod files;
mod findings;
mod forecast;
mod gateways;
mod grain;
mod history;
mod import;
mod installation;
mod key;
mod lock;
mod mail;
mod objectives;
mod outgoing;
mod portal;
mod progress;
mod published;
mod render;
mod retain;
mod rollup;
mod run;
mod server;
mod step;
mod tail;
mod tick;
mod top;
mod unusual;
mod webhook;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// weir limits and meters APIs at nginx.
#[derive(Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
struct Cli {
    /// The installation
    #[arg(short = 'c', long = "config", global = true, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::CheckArgs),
    Apply(apply::ApplyArgs),
    History(history::HistoryArgs),
    Rollback(history::RollbackArgs),
    Enforce(enforce::EnforceArgs),
    Key(key::KeyArgs),
    Client(client::ClientArgs),
    Explain(explain::ExplainArgs),
    Top(top::TopArgs),
    Doctor(doctor::DoctorArgs),
    Cat(cat::CatArgs),
    Tail(tail::TailArgs),
    Tick(tick::TickArgs),
    Run(run::RunArgs),
    Collect(collect::CollectArgs),
    Rollup(rollup::RollupArgs),
    Retain(retain::RetainArgs),
    Render(render::RenderArgs),
    Import(import::ImportArgs),
    Export(export::ExportArgs),
    Files(files::FilesArgs),
    Findings(findings::FindingsArgs),
    Objectives(objectives::ObjectivesArgs),
    Forecast(forecast::ForecastArgs),
    Audit(audit::AuditArgs),
    #[command(subcommand)]
    Portal(portal::PortalCommand),
}

/// Runs the command that the arguments name. Exit status 0: done; 1: found something, or failed;
/// 2: wrong usage.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = cli.config.as_path();
    match &cli.command {
        Command::Check(args) => check::run(config, args),
        Command::Apply(args) => apply::run(config, args),
        Command::History(args) => history::run_history(config, args),
        Command::Rollback(args) => history::run_rollback(config, args),
        Command::Enforce(args) => enforce::run(config, args),
        Command::Key(args) => key::run(config, args),
        Command::Client(args) => client::run(config, args),
        Command::Explain(args) => explain::run(config, args),
        Command::Top(args) => top::run(config, args),
        Command::Doctor(args) => doctor::run(config, args),
        Command::Cat(args) => cat::run(args),
        Command::Tail(args) => tail::run(config, args),
        Command::Tick(args) => tick::run(config, args),
        Command::Run(args) => run::run(config, args),
        Command::Collect(args) => collect::run(config, args),
        Command::Rollup(args) => rollup::run(config, args),
        Command::Retain(args) => retain::run(config, args),
        Command::Render(args) => render::run(config, args),
        Command::Import(args) => import::run(config, args),
        Command::Export(args) => export::run(config, args),
        Command::Files(args) => files::run(config, args),
        Command::Findings(args) => findings::run(config, args),
        Command::Forecast(args) => forecast::run(config, args),
        Command::Objectives(args) => objectives::run(config, args),
        Command::Audit(args) => audit::run(config, args),
        Command::Portal(command) => portal::run(config, command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_has_exit_status_2() {
        let wrong = Cli::command().try_get_matches_from(["weir", "tik"]).unwrap_err();
        assert_eq!(wrong.exit_code(), 2);
        let help = Cli::command().try_get_matches_from(["weir", "--help"]).unwrap_err();
        assert_eq!(help.exit_code(), 0);
    }
}
