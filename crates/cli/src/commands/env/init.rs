//! `hothouse env init`.

use std::fs;
use std::path::{Path, PathBuf};

use hothouse_domain::ErrorCode;

use crate::console;
use crate::failure::Failure;

/// The files of a new package.
const FILES: [(&str, &str); 8] = [
    ("README.md", include_str!("template/README.md")),
    ("client.py", include_str!("template/client.py")),
    ("models.py", include_str!("template/models.py")),
    ("openenv.yaml", include_str!("template/openenv.yaml")),
    ("requirements.txt", include_str!("template/requirements.txt")),
    ("server/__init__.py", ""),
    ("server/app.py", include_str!("template/app.py")),
    ("server/environment.py", include_str!("template/environment.py")),
];

/// Make a package of an environment to start from
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  hothouse env init guess\n  hothouse env serve guess")]
pub(super) struct InitArgs {
    /// Its name: lower case letters, digits and _
    name: String,
    /// Where to make its directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
}

/// Makes it.
pub(super) fn run(args: &InitArgs) -> Result<u8, Failure> {
    check(&args.name)?;
    let directory = args.output.join(&args.name);
    if directory.exists() {
        let detail = format!("{} is there already", directory.display());
        return Err(
            Failure::new(ErrorCode::InvalidRequest, detail).hint("choose another NAME, or another --output")
        );
    }
    for (path, text) in FILES {
        let text = text.replace("{{name}}", &args.name).replace("{{Name}}", &camel(&args.name));
        write(&directory.join(path), &text)?;
    }
    let shown = directory.display();
    console::line(&format!("{shown} is made. Next:"))?;
    console::line(&format!("  hothouse env serve {shown}"))?;
    console::line(&format!("  python {shown}/client.py"))?;
    Ok(0)
}

fn check(name: &str) -> Result<(), Failure> {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_lowercase());
    let rest = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if first && rest && name.len() <= 63 {
        return Ok(());
    }
    Err(Failure::usage("NAME", format!("is {name:?}; use lower case letters, digits and _, a letter first")))
}

/// `my_env` as the name of a class: `MyEnv`.
fn camel(name: &str) -> String {
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect::<String>()
    };
    name.split('_').map(capital).collect()
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| Failure::io(format_args!("writing {}", path.display()), error);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| failed(&e))?;
    }
    fs::write(path, text).map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_classes_are_those_of_python() {
        assert_eq!(camel("my_env"), "MyEnv");
        assert_eq!(camel("chess960"), "Chess960");
    }

    #[test]
    fn names_are_those_of_python_modules() {
        for good in ["guess", "my_env", "chess960"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "My", "9x", "a-b", "a b", "../x", "_x"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
