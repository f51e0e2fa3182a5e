//! `accrual schemas`: writes the JSON Schemas of all inputs and outputs and of a programme, or says where a folder differs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::schema;

/// What `accrual schemas` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct SchemasArgs {
    /// The folder that they are in.
    #[arg(long, default_value = "schemas")]
    dir: PathBuf,
    /// Write nothing, and fail where the folder holds something else.
    #[arg(long)]
    check: bool,
}

/// Writes the schemas, or with `--check` succeeds where they are as they would be written.
///
/// # Errors
/// Where the folder cannot be read or written.
pub fn schemas(args: &SchemasArgs) -> anyhow::Result<ExitCode> {
    let differences = differences(&args.dir)?;
    for difference in &differences {
        println!("{difference}");
    }
    if args.check {
        if differences.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("the schemas differ; `accrual schemas --dir {}` writes them", args.dir.display());
        return Ok(ExitCode::FAILURE);
    }
    write(&args.dir)?;
    Ok(ExitCode::SUCCESS)
}

/// What is not in the folder as it would be written: `new input/order.paid.json`.
///
/// # Errors
/// Where the folder cannot be read.
pub fn differences(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut left_over = written(dir)?;
    let mut differences = Vec::new();
    for file in schema::all() {
        if !left_over.remove(&file.path) {
            differences.push(format!("new      {}", file.path));
        } else if read(&dir.join(&file.path))? != file.json {
            differences.push(format!("changed  {}", file.path));
        }
    }
    differences.extend(left_over.iter().map(|path| format!("removed  {path}")));
    Ok(differences)
}

fn write(dir: &Path) -> anyhow::Result<()> {
    let mut left_over = written(dir)?;
    for file in schema::all() {
        left_over.remove(&file.path);
        let path = dir.join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        fs::write(&path, file.json).with_context(|| format!("writing {}", path.display()))?;
    }
    for path in left_over {
        let path = dir.join(path);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

/// The schemas that the folder holds: `programme.json`, and JSON files in `input/` and `output/`. Whatever else is there is
/// not ours to judge or remove.
fn written(dir: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    if dir.join(schema::PROGRAMME).exists() {
        paths.insert(schema::PROGRAMME.to_owned());
    }
    for side in ["input", "output"] {
        let folder = dir.join(side);
        if !folder.exists() {
            continue;
        }
        let reading = || format!("reading {}", folder.display());
        for file in fs::read_dir(&folder).with_context(reading)? {
            let name = file.with_context(reading)?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".json") {
                paths.insert(format!("{side}/{name}"));
            }
        }
    }
    Ok(paths)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
