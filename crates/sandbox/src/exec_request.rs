//! From what callers ask to what the guest is told.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hothouse_domain::exec::{DEFAULT_GRACE_S, DEFAULT_OUTPUT_LIMIT};
use hothouse_domain::shell::{ShellCommand, ShellSpec};
use hothouse_domain::{
    ContextCode, ContextId, ContextSpec, Encoding, ExecId, ExecSpec, Invalid, SandboxSpec, ShellId,
};
use hothouse_guest::frame::MAX_PAYLOAD;
use hothouse_guest::message::{
    ContextOpenRequest, ContextRunRequest, ExecRequest, OutputMode, Program, Request, ShellOpenRequest,
    ShellRunRequest,
};
use uuid::Uuid;

/// Who chose an exec's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdOrigin {
    Caller,
    Here,
}

/// The caller's exec id, or a fresh one.
pub(crate) fn exec_id(chosen: Option<ExecId>) -> (ExecId, IdOrigin) {
    match chosen {
        Some(id) => (id, IdOrigin::Caller),
        None => (fresh("ex"), IdOrigin::Here),
    }
}

/// A fresh id of this kind, ordered by time.
pub(crate) fn fresh<Id: TryFrom<String>>(prefix: &str) -> Id
where
    Id::Error: std::fmt::Debug,
{
    Id::try_from(format!("{prefix}-{}", Uuid::now_v7().simple())).expect("a prefix and a UUID make an id")
}

/// What the guest is told to run.
pub(crate) fn exec(
    sandbox: &SandboxSpec,
    spec: ExecSpec,
    exec_id: &ExecId,
    output: OutputMode,
) -> Result<Request, Invalid> {
    spec.validate()?;
    let program = match (spec.argv, spec.shell) {
        (Some(argv), _) => Program::Argv(argv),
        (None, Some(shell)) => Program::Shell(shell),
        (None, None) => {
            return Err(Invalid::new("argv", "is missing; give argv (a list) or shell (a string)"));
        }
    };
    Ok(Request::Exec(ExecRequest {
        exec_id: exec_id.to_string(),
        program,
        env: merged(&sandbox.env, asked(sandbox, &spec.secrets, spec.env)?),
        cwd: spec.cwd.unwrap_or_else(|| workdir(sandbox)),
        user: spec.user.or_else(|| sandbox.user.clone()),
        stdin: stdin_bytes(spec.stdin, spec.stdin_encoding)?,
        stdin_open: spec.stdin_open,
        timeout_ms: spec.timeout_s.map(milliseconds),
        grace_ms: milliseconds(spec.grace_s.unwrap_or(DEFAULT_GRACE_S)),
        output_limit: spec.output_limit_bytes.unwrap_or(DEFAULT_OUTPUT_LIMIT),
        pty: spec.pty.map(|size| (size.rows, size.cols)),
        output,
    }))
}

/// What the guest is told to open a shell session with.
pub(crate) fn shell_open(
    sandbox: &SandboxSpec,
    spec: ShellSpec,
    shell_id: &ShellId,
) -> Result<Request, Invalid> {
    spec.validate()?;
    Ok(Request::ShellOpen(ShellOpenRequest {
        shell_id: shell_id.to_string(),
        env: merged(&sandbox.env, asked(sandbox, &spec.secrets, spec.env)?),
        cwd: spec.cwd.unwrap_or_else(|| workdir(sandbox)),
        user: spec.user.or_else(|| sandbox.user.clone()),
    }))
}

/// What the guest is told to run in a shell session.
pub(crate) fn shell_run(
    shell_id: &ShellId,
    command: ShellCommand,
    exec_id: &ExecId,
    output: OutputMode,
) -> Result<Request, Invalid> {
    command.validate()?;
    let output_limit = command.output_limit_bytes.unwrap_or(DEFAULT_OUTPUT_LIMIT);
    if output_limit > hothouse_domain::exec::MAX_OUTPUT_LIMIT {
        let most = hothouse_domain::exec::MAX_OUTPUT_LIMIT;
        return Err(Invalid::new("output_limit_bytes", format!("is {output_limit}; at most {most}")));
    }
    Ok(Request::ShellRun(ShellRunRequest {
        shell_id: shell_id.to_string(),
        exec_id: exec_id.to_string(),
        command: command.command,
        timeout_ms: command.timeout_s.map(milliseconds),
        output_limit,
        output,
    }))
}

/// What the guest is told to open a context with.
pub(crate) fn context_open(
    sandbox: &SandboxSpec,
    spec: ContextSpec,
    context_id: &ContextId,
) -> Result<Request, Invalid> {
    spec.validate()?;
    // Apart from the rest: what the interpreters are forked from must not have them.
    let given = asked(sandbox, &spec.secrets, BTreeMap::new())?;
    let secrets = given.into_iter().filter(|(name, _)| !spec.env.contains_key(name)).collect();
    Ok(Request::ContextOpen(ContextOpenRequest {
        context_id: context_id.to_string(),
        imports: spec.imports,
        env: merged(&sandbox.env, spec.env),
        secrets,
        cwd: spec.cwd.unwrap_or_else(|| workdir(sandbox)),
        user: spec.user,
        memory_bytes: spec.memory_bytes,
    }))
}

/// What the guest is told to run in a context.
pub(crate) fn context_run(
    context_id: &ContextId,
    code: ContextCode,
    exec_id: &ExecId,
    output: OutputMode,
) -> Result<Request, Invalid> {
    code.validate()?;
    Ok(Request::ContextRun(ContextRunRequest {
        context_id: context_id.to_string(),
        exec_id: exec_id.to_string(),
        code: code.code,
        timeout_ms: code.timeout_s.map(milliseconds),
        grace_ms: milliseconds(code.grace_s.unwrap_or(DEFAULT_GRACE_S)),
        output_limit: code.output_limit_bytes.unwrap_or(DEFAULT_OUTPUT_LIMIT),
        output,
    }))
}

/// The encoded request, if it fits into one frame.
pub(crate) fn encoded(request: &Request) -> Result<Vec<u8>, Invalid> {
    let bytes = hothouse_guest::message::encode(request);
    if bytes.len() <= MAX_PAYLOAD {
        return Ok(bytes);
    }
    let (field, instead) = match request {
        Request::Exec(exec) if exec.stdin.len() > MAX_PAYLOAD / 2 => {
            ("stdin", "open standard input with stdin_open and stream it, or write it to a file")
        }
        _ => ("env", "write the large values to files"),
    };
    Err(Invalid::new(
        field,
        format!("makes the request {} bytes long; at most {MAX_PAYLOAD}: {instead}", bytes.len()),
    ))
}

/// The working directory of execs that name none.
pub(crate) fn workdir(sandbox: &SandboxSpec) -> String {
    sandbox.workdir.clone().unwrap_or_else(|| SandboxSpec::DEFAULT_WORKDIR.to_owned())
}

/// With the secrets that are asked for; a variable that is given wins.
fn asked(
    sandbox: &SandboxSpec,
    names: &[String],
    mut env: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Invalid> {
    for (at, name) in names.iter().enumerate() {
        let Some(secret) = sandbox.secrets.get(name) else {
            let known: Vec<&str> = sandbox.secrets.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let short: String = name.chars().take(64).collect();
            let reason = format!("{short:?} is no secret of this sandbox; it has {known}");
            return Err(Invalid::new(format!("secrets[{at}]"), reason));
        };
        env.entry(name.clone()).or_insert_with(|| secret.reveal().to_owned());
    }
    Ok(env)
}

fn merged(base: &BTreeMap<String, String>, over: BTreeMap<String, String>) -> Vec<(String, String)> {
    let kept = base.iter().filter(|(name, _)| !over.contains_key(*name));
    let mut env: Vec<(String, String)> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    env.extend(over);
    env
}

fn stdin_bytes(text: Option<String>, encoding: Encoding) -> Result<Vec<u8>, Invalid> {
    let Some(text) = text else { return Ok(Vec::new()) };
    match encoding {
        Encoding::Utf8 => Ok(text.into_bytes()),
        Encoding::Base64 => {
            STANDARD.decode(text).map_err(|e| Invalid::new("stdin", format!("is not standard base64: {e}")))
        }
    }
}

/// Seconds that were checked before, rounded up so that a positive time never becomes none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range was checked to be 0 to 30 days, and a cast of a float saturates"
)]
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(sandbox: &SandboxSpec, spec: ExecSpec) -> Result<ExecRequest, Invalid> {
        match exec(sandbox, spec, &"e".parse().unwrap(), OutputMode::Collect)? {
            Request::Exec(request) => Ok(request),
            other => panic!("{other:?}"),
        }
    }

    fn shell(line: &str) -> ExecSpec {
        ExecSpec { shell: Some(line.to_owned()), ..ExecSpec::default() }
    }

    fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn an_execs_own_variables_win() {
        let sandbox = SandboxSpec { env: vars(&[("A", "1"), ("B", "2")]), ..SandboxSpec::default() };
        let spec = ExecSpec { env: vars(&[("B", "3"), ("C", "4")]), ..shell("env") };
        let got: BTreeMap<_, _> = request(&sandbox, spec).unwrap().env.into_iter().collect();
        assert_eq!(got, vars(&[("A", "1"), ("B", "3"), ("C", "4")]));
    }

    #[test]
    fn the_working_directory_is_the_execs_then_the_sandboxs_then_the_default() {
        let plain = SandboxSpec::default();
        let named = SandboxSpec { workdir: Some("/srv".to_owned()), ..SandboxSpec::default() };
        let own = ExecSpec { cwd: Some("/tmp".to_owned()), ..shell("pwd") };
        assert_eq!(request(&plain, shell("pwd")).unwrap().cwd, "/workspace");
        assert_eq!(request(&named, shell("pwd")).unwrap().cwd, "/srv");
        assert_eq!(request(&named, own).unwrap().cwd, "/tmp");
    }

    #[test]
    fn binary_stdin_comes_as_base64_and_broken_base64_is_named() {
        let with = |text: &str| ExecSpec {
            stdin: Some(text.to_owned()),
            stdin_encoding: Encoding::Base64,
            ..shell("cat")
        };
        let sandbox = SandboxSpec::default();
        assert_eq!(request(&sandbox, with("/wA=")).unwrap().stdin, [0xff, 0]);
        assert_eq!(request(&sandbox, with("/w*=")).unwrap_err().field, "stdin");
    }

    #[test]
    fn a_request_over_one_frame_names_what_makes_it_long() {
        let sandbox = SandboxSpec::default();
        let exec_id = "e".parse().unwrap();
        let spec = ExecSpec { stdin: Some("x".repeat(MAX_PAYLOAD)), ..shell("cat") };
        let long = exec(&sandbox, spec, &exec_id, OutputMode::Collect).unwrap();
        assert_eq!(encoded(&long).unwrap_err().field, "stdin");
        let env = (0..50).map(|n| (format!("V{n}"), "x".repeat(90_000))).collect();
        let long = exec(&sandbox, ExecSpec { env, ..shell("true") }, &exec_id, OutputMode::Collect).unwrap();
        assert_eq!(encoded(&long).unwrap_err().field, "env");
    }

    #[test]
    fn a_millisecond_never_becomes_nothing() {
        assert_eq!(milliseconds(0.0011), 2);
        assert_eq!(milliseconds(0.001), 1);
        assert_eq!(milliseconds(2.0), 2000);
    }
}
