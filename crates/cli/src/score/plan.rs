//! From rows to attempts: which solution of which task is run within which limits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use hothouse_domain::ImageRef;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::row::{Bounds, FileContent, Files, FunctionTask, ProgramTask, SolutionRow, check_files};
use super::source::{Line, Problems};
use super::verdict::Verdict;

/// A task of either shape.
#[derive(Debug, PartialEq)]
pub(crate) enum Task {
    /// A Python function.
    Function(FunctionTask),
    /// Any program.
    Program(ProgramTask),
}

/// One solution of one task.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Solution {
    /// A whole Python program that defines the function.
    Source(String),
    /// The files of a program.
    Files(Files),
}

/// One run to make.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) task: Arc<Task>,
    /// Which of the task's solutions, from 0.
    pub(crate) sample: u32,
    pub(crate) solution: Solution,
    pub(crate) bounds: Bounds,
    /// Names all that the verdict depends on.
    pub(crate) key: String,
    pub(crate) expect: Vec<Verdict>,
    pub(crate) attack: String,
}

impl Task {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Function(task) => &task.task_id,
            Self::Program(task) => &task.task_id,
        }
    }

    /// True when Python tests judge it.
    pub(crate) fn is_for_python(&self) -> bool {
        match self {
            Self::Function(_) => true,
            Self::Program(task) => task.tests.as_ref().is_some_and(|tests| tests.python.is_some()),
        }
    }

    /// The solution that the task's own row has.
    fn own_solution(&self) -> Option<Solution> {
        match self {
            Self::Function(task) => {
                if let Some(whole) = &task.solution {
                    return Some(Solution::Source(whole.clone()));
                }
                let body = task.completion.as_ref().or(task.canonical_solution.as_ref())?;
                Some(Solution::Source(format!("{}{body}", task.prompt)))
            }
            Self::Program(task) => task.solution_files.clone().map(Solution::Files),
        }
    }

    /// The solution that a row of a solutions file has for this task.
    fn solution(&self, row: &SolutionRow) -> Result<Solution, String> {
        let given = [row.completion.is_some(), row.solution.is_some(), row.files.is_some()];
        if given.into_iter().filter(|&yes| yes).count() != 1 {
            return Err("needs exactly one of completion, solution and files".to_owned());
        }
        match (self, &row.completion, &row.solution, &row.files) {
            (Self::Function(task), Some(body), ..) => Ok(Solution::Source(format!("{}{body}", task.prompt))),
            (Self::Function(_), _, Some(whole), _) => Ok(Solution::Source(whole.clone())),
            (Self::Function(_), ..) => {
                Err("files go with program tasks; use completion or solution".to_owned())
            }
            (Self::Program(task), _, Some(text), _) => match &task.solution_path {
                Some(path) => {
                    Ok(Solution::Files(Files::from([(path.clone(), FileContent::Text(text.clone()))])))
                }
                None => Err("solution needs the task's solution_path; use files".to_owned()),
            },
            (Self::Program(_), .., Some(files)) => {
                check_files("files", files).map_err(|e| e.to_string())?;
                Ok(Solution::Files(files.clone()))
            }
            (Self::Program(_), ..) => Err("completion goes with function tasks; use files".to_owned()),
        }
    }
}

/// Tasks in the order of their file, with their lines.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    file: String,
    in_order: Vec<(usize, Arc<Task>)>,
    by_id: HashMap<String, usize>,
    /// Fields of function tasks that nothing here reads, and how many rows have them.
    pub(crate) ignored: BTreeMap<String, usize>,
}

impl Tasks {
    /// Takes the rows of a file; what breaks a rule is noted.
    pub(crate) fn parse(file: &str, lines: Vec<Line>, problems: &mut Problems) -> Self {
        let mut tasks = Self { file: file.to_owned(), ..Self::default() };
        for line in lines {
            match tasks.parse_one(line.object) {
                Ok(task) => tasks.insert(line.number, task, problems),
                Err(what) => problems.add(file, line.number, what),
            }
        }
        if tasks.in_order.is_empty() && problems.is_empty() {
            problems.add_whole(file, "has no rows");
        }
        tasks
    }

    fn parse_one(&mut self, object: Map<String, Value>) -> Result<Task, String> {
        const PROGRAM_ONLY: [&str; 6] = ["files", "command", "cases", "tests", "build", "solution_files"];
        if PROGRAM_ONLY.iter().any(|field| object.contains_key(*field)) && !object.contains_key("entry_point")
        {
            let task: ProgramTask = typed(object)?;
            task.validate().map_err(|e| e.to_string())?;
            return Ok(Task::Program(task));
        }
        if !["prompt", "entry_point", "test"].iter().any(|field| object.contains_key(*field)) {
            return Err(
                "is no task: it has neither prompt, entry_point and test nor command with cases or tests"
                    .to_owned(),
            );
        }
        const KNOWN: [&str; 8] = [
            "task_id",
            "prompt",
            "entry_point",
            "test",
            "canonical_solution",
            "completion",
            "solution",
            "limits",
        ];
        count_unknown(&object, &KNOWN, &mut self.ignored);
        let task: FunctionTask = typed(object)?;
        let name_like = |c: char| c.is_alphanumeric() || c == '_';
        if task.entry_point.is_empty() || !task.entry_point.chars().all(name_like) {
            return Err(format!("entry_point {:?} is not the name of a function", task.entry_point));
        }
        Ok(Task::Function(task))
    }

    fn insert(&mut self, line: usize, task: Task, problems: &mut Problems) {
        if let Some(&first) = self.by_id.get(task.id()) {
            let first = self.in_order[first].0;
            let what = format!("task_id {:?} is on line {first} already", task.id());
            return problems.add(&self.file, line, what);
        }
        self.by_id.insert(task.id().to_owned(), self.in_order.len());
        self.in_order.push((line, Arc::new(task)));
    }

    pub(crate) fn len(&self) -> usize {
        self.in_order.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.in_order.iter().map(|(_, task)| task)
    }
}

fn count_unknown(object: &Map<String, Value>, known: &[&str], ignored: &mut BTreeMap<String, usize>) {
    for field in object.keys().filter(|field| !known.contains(&field.as_str())) {
        *ignored.entry(field.clone()).or_default() += 1;
    }
}

fn typed<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(object)).map_err(|e| e.to_string())
}

/// The attempts to make, and what the user should know of the rest.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) attempts: Vec<Attempt>,
    /// Tasks without a solution.
    pub(crate) unsolved: Vec<String>,
    /// Fields of solution rows that nothing here reads, and how many rows have them.
    pub(crate) ignored: BTreeMap<String, usize>,
}

/// What all attempts have in common.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) image: ImageRef,
    /// Limits of rows that name none.
    pub(crate) bounds: Bounds,
}

impl Plan {
    /// Every task's own solution.
    pub(crate) fn of_own_solutions(tasks: &Tasks, common: &Common, problems: &mut Problems) -> Self {
        let mut plan = Self::default();
        for (line, task) in &tasks.in_order {
            match task.own_solution() {
                Some(solution) => {
                    let attempt = attempt(task, 0, solution, common);
                    plan.add(attempt, &tasks.file, *line, problems);
                }
                None => plan.unsolved.push(task.id().to_owned()),
            }
        }
        plan
    }

    /// The solutions of a file, in the order of the tasks.
    pub(crate) fn of_solutions(
        tasks: &Tasks,
        file: &str,
        lines: Vec<Line>,
        common: &Common,
        problems: &mut Problems,
    ) -> Self {
        const KNOWN: [&str; 6] = ["task_id", "completion", "solution", "files", "expect", "attack"];
        let mut plan = Self::default();
        let mut of_task: Vec<Vec<(usize, SolutionRow, Solution)>> = Vec::new();
        of_task.resize_with(tasks.len(), Vec::new);
        for line in lines {
            count_unknown(&line.object, &KNOWN, &mut plan.ignored);
            let row: Result<SolutionRow, String> = typed(line.object);
            let found = row.and_then(|row| {
                let at = tasks.by_id.get(&row.task_id);
                let at = *at.ok_or_else(|| format!("task_id {:?} is not in {}", row.task_id, tasks.file))?;
                let solution = tasks.in_order[at].1.solution(&row)?;
                Ok((at, row, solution))
            });
            match found {
                Ok((at, row, solution)) => of_task[at].push((line.number, row, solution)),
                Err(what) => problems.add(file, line.number, what),
            }
        }
        for ((_, task), solutions) in tasks.in_order.iter().zip(of_task) {
            if solutions.is_empty() {
                plan.unsolved.push(task.id().to_owned());
            }
            for (sample, (line, row, solution)) in (0..).zip(solutions) {
                let attempt = attempt(task, sample, solution, common).map(|mut attempt| {
                    attempt.expect = row.expect.map(Vec::from).unwrap_or_default();
                    attempt.attack = row.attack.unwrap_or_default();
                    attempt
                });
                plan.add(attempt, file, line, problems);
            }
        }
        plan
    }

    fn add(&mut self, attempt: Result<Attempt, String>, file: &str, line: usize, problems: &mut Problems) {
        match attempt {
            Ok(attempt) => self.attempts.push(attempt),
            Err(what) => problems.add(file, line, what),
        }
    }

    /// How many tasks have attempts.
    pub(crate) fn tasks(&self) -> usize {
        self.attempts.iter().map(|attempt| attempt.task.id()).collect::<BTreeSet<_>>().len()
    }
}

fn attempt(task: &Arc<Task>, sample: u32, solution: Solution, common: &Common) -> Result<Attempt, String> {
    let limits = match &**task {
        Task::Function(task) => &task.limits,
        Task::Program(task) => &task.limits,
    };
    let bounds = limits.over(&common.bounds).map_err(|e| format!("limits: {e}"))?;
    let key = key(task, sample, &solution, &bounds, &common.image);
    Ok(Attempt {
        task: Arc::clone(task),
        sample,
        solution,
        bounds,
        key,
        expect: Vec::new(),
        attack: String::new(),
    })
}

/// Changes whenever the verdict might: with the way of judging, the task, the solution, the limits and the image.
fn key(task: &Task, sample: u32, solution: &Solution, bounds: &Bounds, image: &ImageRef) -> String {
    // Raise this when the same input may get another verdict than before.
    const JUDGE: u32 = 1;
    let task = match task {
        Task::Function(task) => serde_json::json!([task.task_id, task.prompt, task.entry_point, task.test]),
        Task::Program(task) => {
            serde_json::json!(ProgramTask {
                limits: Default::default(),
                solution_files: None,
                ..task.clone()
            })
        }
    };
    let all = serde_json::json!([JUDGE, task, sample, solution, bounds, image]);
    let digest = Sha256::digest(all.to_string().as_bytes());
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use hothouse_domain::Resources;
    use serde_json::json;
    use test_case::test_case;

    use super::*;

    fn lines(rows: &[Value]) -> Vec<Line> {
        let object = |row: &Value| row.as_object().unwrap().clone();
        rows.iter().zip(1..).map(|(row, number)| Line { number, object: object(row) }).collect()
    }

    fn common() -> Common {
        let bounds = Bounds { timeout_s: 10.0, resources: Resources::default() };
        Common { image: ImageRef::Host, bounds }
    }

    fn function(id: &str) -> Value {
        json!({"task_id": id, "prompt": "def f(x):\n", "entry_point": "f", "test": "def check(c): assert c(1)"})
    }

    fn program(more: &Value) -> Value {
        let mut row = json!({"task_id": "p", "command": ["cat"]});
        row.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        row
    }

    fn parse(rows: &[Value]) -> (Tasks, Vec<String>) {
        let mut problems = Problems::default();
        let tasks = Tasks::parse("t.jsonl", lines(rows), &mut problems);
        (tasks, problems.shown())
    }

    #[test_case(json!({"task_id": "a"}) => "t.jsonl:1: is no task: it has neither prompt, entry_point and test nor command with cases or tests"; "no shape")]
    #[test_case(json!({"task_id": "a", "prompt": "", "entry_point": "f"}) => "t.jsonl:1: missing field `test`"; "no test")]
    #[test_case(json!({"prompt": "", "entry_point": "f", "test": ""}) => "t.jsonl:1: missing field `task_id`"; "no id")]
    #[test_case(json!({"task_id": [], "prompt": "", "entry_point": "f", "test": ""}) => "t.jsonl:1: task_id is neither a string nor a number"; "odd id")]
    #[test_case(json!({"task_id": "", "prompt": "", "entry_point": "f", "test": ""}) => "t.jsonl:1: task_id is empty or longer than 512 bytes"; "empty id")]
    #[test_case(json!({"task_id": "a", "prompt": "", "entry_point": "f(", "test": ""}) => "t.jsonl:1: entry_point \"f(\" is not the name of a function"; "odd name")]
    #[test_case(json!({"task_id": "a", "prompt": 5, "entry_point": "f", "test": ""}) => "t.jsonl:1: invalid type: integer `5`, expected a string"; "wrong type")]
    #[test_case(program(&json!({"surprise": 1})) => "t.jsonl:1: unknown field `surprise`, expected one of `task_id`, `files`, `solution_files`, `solution_path`, `build`, `command`, `stdin`, `cases`, `tests`, `limits`"; "unknown field")]
    #[test_case(program(&json!({})) => "t.jsonl:1: cases and tests are both missing; give one of them"; "neither")]
    #[test_case(program(&json!({"cases": [{"expected_stdout": ""}], "tests": {"python": ""}})) => "t.jsonl:1: tests and cases are both given; give one of them"; "both")]
    #[test_case(program(&json!({"cases": [{"stdin": ""}]})) => "t.jsonl:1: missing field `expected_stdout`"; "case without output")]
    #[test_case(program(&json!({"cases": [{"expected_stdout": ""}], "command": []})) => "t.jsonl:1: command is empty; give a list or a line for the shell"; "empty command")]
    #[test_case(program(&json!({"cases": [{"expected_stdout": "", "args": ["a"]}], "command": "cat"})) => "t.jsonl:1: command is a string; cases with args need a list"; "args for a shell line")]
    #[test_case(program(&json!({"tests": {}})) => "t.jsonl:1: tests has neither python nor command; give one of them"; "empty tests")]
    #[test_case(program(&json!({"files": {"../a": ""}, "cases": [{"expected_stdout": ""}]})) => "t.jsonl:1: files.\"../a\" is not a plain relative path: no leading '/', no '.', no '..'"; "path that leaves")]
    #[test_case(program(&json!({"files": {"/etc/a": ""}, "cases": [{"expected_stdout": ""}]})) => "t.jsonl:1: files.\"/etc/a\" is not a plain relative path: no leading '/', no '.', no '..'"; "absolute path")]
    #[test_case(program(&json!({"files": {"a": {"base64": "?"}}, "cases": [{"expected_stdout": ""}]})) => "t.jsonl:1: files.\"a\" is not base64: Invalid symbol 63, offset 0."; "bad base64")]
    fn bad_tasks(row: Value) -> String {
        let (_, problems) = parse(&[row]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].clone()
    }

    #[test]
    fn a_second_row_of_a_task_is_refused_and_the_first_is_named() {
        let (tasks, problems) = parse(&[function("a"), function("b"), function("a")]);
        assert_eq!(tasks.len(), 2);
        assert_eq!(problems, ["t.jsonl:3: task_id \"a\" is on line 1 already"]);
    }

    #[test]
    fn no_rows_at_all_is_an_error() {
        assert_eq!(parse(&[]).1, ["t.jsonl: has no rows"]);
    }

    #[test]
    fn unknown_fields_of_function_rows_are_counted() {
        let mut row = function("a");
        row["atol"] = json!(0);
        let (tasks, problems) = parse(&[row, function("b")]);
        assert!(problems.is_empty());
        assert_eq!(tasks.ignored, [("atol".to_owned(), 1)].into());
    }

    #[test_case(json!({"task_id": "zz", "completion": ""}) => "s.jsonl:1: task_id \"zz\" is not in t.jsonl"; "unknown task")]
    #[test_case(json!({"task_id": "a"}) => "s.jsonl:1: needs exactly one of completion, solution and files"; "nothing")]
    #[test_case(json!({"task_id": "a", "completion": "", "solution": ""}) => "s.jsonl:1: needs exactly one of completion, solution and files"; "two")]
    #[test_case(json!({"task_id": "a", "files": {}}) => "s.jsonl:1: files go with program tasks; use completion or solution"; "files for a function")]
    #[test_case(json!({"task_id": "p", "completion": ""}) => "s.jsonl:1: completion goes with function tasks; use files"; "completion for a program")]
    #[test_case(json!({"task_id": "p", "solution": ""}) => "s.jsonl:1: solution needs the task's solution_path; use files"; "no path")]
    #[test_case(json!({"task_id": "p", "files": {"a//b": ""}}) => "s.jsonl:1: files.\"a//b\" is not a plain relative path: no leading '/', no '.', no '..'"; "odd path")]
    #[test_case(json!({"task_id": "a", "completion": "", "expect": "won"}) => "s.jsonl:1: data did not match any variant of untagged enum Expect"; "odd verdict")]
    fn bad_solutions(row: Value) -> String {
        let mut problems = Problems::default();
        let (tasks, _) = parse(&[function("a"), program(&json!({"cases": [{"expected_stdout": ""}]}))]);
        let plan = Plan::of_solutions(&tasks, "s.jsonl", lines(&[row]), &common(), &mut problems);
        assert!(plan.attempts.is_empty());
        problems.shown().join("|")
    }

    #[test]
    fn samples_are_counted_per_task_and_unsolved_tasks_named() {
        let mut problems = Problems::default();
        let (tasks, _) = parse(&[function("a"), function("b"), function("c")]);
        let rows = [
            json!({"task_id": "b", "completion": " return 1", "expect": ["failed", "error"], "attack": "x"}),
            json!({"task_id": "a", "completion": " return 1", "passed": true}),
            json!({"task_id": "b", "completion": " return 1"}),
        ];
        let plan = Plan::of_solutions(&tasks, "s.jsonl", lines(&rows), &common(), &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        let order: Vec<_> = plan.attempts.iter().map(|a| (a.task.id(), a.sample)).collect();
        assert_eq!(order, [("a", 0), ("b", 0), ("b", 1)]);
        assert_ne!(plan.attempts[1].key, plan.attempts[2].key);
        assert_eq!(plan.attempts[1].expect, [Verdict::Failed, Verdict::Error]);
        assert_eq!(plan.unsolved, ["c"]);
        assert_eq!(plan.tasks(), 2);
        assert_eq!(plan.ignored, [("passed".to_owned(), 1)].into());
    }

    #[test]
    fn the_key_follows_all_that_the_verdict_depends_on() {
        let key_of = |row: Value, common: &Common| {
            let mut problems = Problems::default();
            let tasks = Tasks::parse("t", lines(&[row]), &mut problems);
            let plan = Plan::of_own_solutions(&tasks, common, &mut problems);
            assert!(problems.is_empty(), "{problems:?}");
            plan.attempts[0].key.clone()
        };
        let mut row = function("a");
        row["completion"] = json!(" return x");
        let key = key_of(row.clone(), &common());
        assert_eq!(key, key_of(row.clone(), &common()));
        let mut same = row.clone();
        same["canonical_solution"] = json!("unused");
        assert_eq!(key, key_of(same, &common()));
        for (field, value) in [
            ("test", json!("def check(c): pass")),
            ("completion", json!(" return 2")),
            ("limits", json!({"timeout_s": 3.0})),
            ("limits", json!({"pids": 9})),
        ] {
            let mut other = row.clone();
            other[field] = value;
            assert_ne!(key, key_of(other, &common()), "{field}");
        }
        assert_ne!(key, key_of(row, &Common { image: "dir:/x".parse().unwrap(), ..common() }));
    }

    #[test_case(json!({"timeout_s": 0}) => "t:1: limits: timeout_s is 0; use 0.1 to 86400 seconds"; "no time")]
    #[test_case(json!({"pids": 1}) => "t:1: limits: resources.pids is 1; use 4 to 1048576 processes"; "too few pids")]
    fn bad_limits(limits: Value) -> String {
        let mut row = function("a");
        row["limits"] = limits;
        row["completion"] = json!("");
        let mut problems = Problems::default();
        let tasks = Tasks::parse("t", lines(&[row]), &mut problems);
        Plan::of_own_solutions(&tasks, &common(), &mut problems);
        problems.shown().join("|")
    }
}
