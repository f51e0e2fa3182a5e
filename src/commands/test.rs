//! `accrual test`: runs scenarios, and shows where something else came than they expect.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::setup::{programme_texts, retention};
use crate::config::read_text;
use crate::programme::Versions;
use crate::scenario::{Failure, ProgrammeText, Programmes, Runner, Scenario, ScenarioFile};
use crate::yaml::{Problems, shown};

/// What `accrual test` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct TestArgs {
    /// Files of scenarios, and folders in which every *.yaml is one that is no programme and no settings.
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
    /// Try this programme instead of those that the files name; several, with commas or given again, are
    /// versions of one.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    programme: Vec<PathBuf>,
    /// Name the scenarios that pass, too, where the output is no terminal.
    #[arg(long, short)]
    verbose: bool,
}

/// Folders may stand so deep within each other; links that lead in circles end here.
const MOST_DEPTH: usize = 32;

/// Runs every scenario. Succeeds where all of them pass, fails with 1 where one does not, and with 2 where
/// a file is wrong.
///
/// # Errors
/// None; what is wrong with files is printed.
pub fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let versions = match load(&args.programme) {
        Ok(versions) => versions.map(Arc::new),
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::from(2));
        }
    };
    let mut report =
        Report { names_passed: args.verbose || std::io::stdout().is_terminal(), ..Report::default() };
    for path in &args.paths {
        match files(path) {
            Ok(files) => {
                let asked_for = |file: &&PathBuf| **file == *path || !is_something_else(file);
                files.iter().filter(asked_for).for_each(|file| report.file(file, versions.as_ref()));
            }
            Err(problems) => report.wrong(&problems),
        }
    }
    println!("{}", report.summary());
    Ok(match &report {
        Report { wrong: 1.., .. } => ExitCode::from(2),
        Report { failed: 1.., .. } => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// What has been found so far.
#[derive(Debug, Default)]
struct Report {
    names_passed: bool,
    passed: usize,
    failed: usize,
    /// Files and folders that could not be run.
    wrong: usize,
}

impl Report {
    fn file(&mut self, path: &Path, versions: Option<&Arc<Versions>>) {
        let file = match load_scenarios(path, versions) {
            Ok(file) => file,
            Err(problems) => return self.wrong(&problems),
        };
        let runner = Runner::new(&file.versions, retention(&file.versions, 0, file.dedupe_window));
        for scenario in &file.scenarios {
            self.scenario(&file, scenario, &runner.run(scenario));
        }
    }

    fn scenario(&mut self, file: &ScenarioFile, Scenario { name, .. }: &Scenario, failures: &[Failure]) {
        if failures.is_empty() {
            self.passed += 1;
            if self.names_passed {
                println!("ok      {}: {name}", file.name);
            }
            return;
        }
        self.failed += 1;
        println!("FAILED  {}: {name}", file.name);
        for Failure { line, what, differences } in failures {
            println!("\n    {}:{line}: {what}", file.name);
            for difference in differences {
                println!("      {difference}");
            }
        }
        println!();
    }

    fn wrong(&mut self, problems: &Problems) {
        self.wrong += 1;
        eprintln!("{problems}\n");
    }

    fn summary(&self) -> String {
        let all = self.passed + self.failed;
        let scenarios = if all == 1 { "scenario" } else { "scenarios" };
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed (- expected, + came)"),
        };
        let wrong = match self.wrong {
            0 => String::new(),
            1 => "; 1 file could not be run".to_owned(),
            many => format!("; {many} files could not be run"),
        };
        format!("{all} {scenarios}: {} ok{failed}{wrong}", self.passed)
    }
}

/// The versions of a programme, if any file of one is named.
fn load(paths: &[PathBuf]) -> Result<Option<Versions>, Problems> {
    if paths.is_empty() {
        return Ok(None);
    }
    Versions::parse(&programme_texts(paths)?).map(Some)
}

/// The scenarios of a file, with the programme that it names or the one that is given.
fn load_scenarios(path: &Path, versions: Option<&Arc<Versions>>) -> Result<ScenarioFile, Problems> {
    let beside = |named: &str| {
        let path = path.parent().unwrap_or(Path::new("")).join(named);
        let text = read_text(&path).map_err(|problems| {
            problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ")
        })?;
        Ok(ProgrammeText { name: path.display().to_string(), text })
    };
    let programmes = match versions {
        Some(versions) => Programmes::Always(versions.clone()),
        None => Programmes::AsNamed(&beside),
    };
    ScenarioFile::parse(&path.display().to_string(), &read_text(path)?, &programmes)
}

/// Whether the file is a programme or settings, which often lie beside their scenarios. A key that only
/// those have tells: a file of scenarios with a mistake in it must not be passed over.
fn is_something_else(path: &Path) -> bool {
    let text = read_text(path).unwrap_or_default();
    text.lines().any(|line| line.starts_with("rules:") || line.starts_with("kafka:"))
}

/// The file itself, or every YAML file below the folder, by name.
fn files(path: &Path) -> Result<Vec<PathBuf>, Problems> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    collect(path, MOST_DEPTH, &mut found)?;
    if found.is_empty() {
        let folder = shown(&path.display().to_string());
        return Err(Problems::one(format!("there is no *.yaml in {folder}")));
    }
    Ok(found)
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Problems> {
    let cannot = |why: &dyn std::fmt::Display| {
        Problems::one(format!("cannot read {}: {why}", shown(&folder.display().to_string())))
    };
    if depth == 0 {
        return Err(cannot(&"it stands too deep within other folders"));
    }
    let entries = std::fs::read_dir(folder).map_err(|error| cannot(&error))?;
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| cannot(&error))?;
        // Hidden ones are the doings of tools.
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, depth - 1, found)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            found.push(path);
        }
    }
    Ok(())
}
