//! What a person reads when something is wrong: what failed, where, why, and what to do. Kept as a snapshot, so that every
//! change of a message is seen.

use std::{fmt::Write, fs};

use crate::support::Enroll;

#[test]
fn errors_say_what_failed_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("people.csv", "path,merchant_user_id\na.jpg,u1\n"),
        ("misnamed.csv", "pth,merchant_user_id\na.jpg,u1\n"),
        ("carets.csv", "path^merchant_user_id\na.jpg^u1\n"),
        ("twice.csv", "path,path\na.jpg,b.jpg\n"),
        ("unnamed.csv", "path,staffno\nnobody.jpg,7\n"),
        ("headed.csv", "path,merchant_user_id\n"),
        ("broken.jsonl", "{\"path\":\"a.jpg\"}\n{\"path\":\"b.jpg\",,}\n"),
        ("key.toml", "qps = 5\nregoin = \"cn-hongkong\"\n"),
        ("value.toml", "qps = true\n"),
        ("syntax.toml", "qps = \n"),
        ("faults.jsonl", "{\"calls\":[1],\"fault\":\"throttel\"}"),
        (
            "foreign.sqlite",
            "this is a text, and long enough to be looked at as a database: it has more than a hundred bytes, all of them text\n",
        ),
    ];
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let commands = [
        "rnu people.csv",
        "run people.csv --conccurrency 5",
        "run people.csv --group g",
        "run people.csv --group g --region ap-southeast1",
        "run people.csv --group g --region ap-southeast-1",
        "run people.csv --group g --endpoint http://example.com",
        "run nobody.csv --group g --region ap-southeast-1",
        "run people.csv",
        "run misnamed.csv --sandbox",
        "run people.csv --sandbox --column path=pth",
        "run carets.csv --sandbox",
        "run twice.csv --sandbox",
        "run people.csv misnamed.csv --sandbox",
        "run - --sandbox",
        "run people.csv --sandbox --qps 0",
        "run people.csv --sandbox --max-duration 5x",
        "run people.csv --sandbox --window 22-6",
        "run people.csv --sandbox --checkpoint foreign.sqlite",
        "run people.csv --sandbox --metrics-file nowhere/metrics.prom",
        "run people.csv --sandbox --json=itms",
        "check broken.jsonl --group g",
        "-q run unnamed.csv --sandbox",
        "-q run unnamed.csv --sandbox --id-from name",
        "run headed.csv --sandbox",
        "status people.csv",
        "export people.csv --status enroled",
        "export people.csv -o .",
        "report people.csv -o nowhere/page.html",
        "retry people.csv --status pending",
        "--config key.toml status people.csv",
        "--config value.toml run people.csv --sandbox",
        "--config syntax.toml status people.csv",
        "--config none.toml status people.csv",
        "--config key.toml --profile day status people.csv",
        "sandbox --faults faults.jsonl",
        "sandbox --listen 0.0.0.0:8470",
    ];
    let mut said = String::new();
    for command in commands {
        let mut words = command.split(' ');
        let mut enroll = Enroll::new(words.next().unwrap());
        enroll.command().current_dir(dir.path());
        let ended = enroll.args(words).end();
        let folder = dir.path().canonicalize().unwrap();
        let shown = [ended.stdout, ended.stderr].concat().replace(&format!("{}/", folder.display()), "");
        // The log's own lines, and the summary of a run that got as far, are others' to check.
        let lines = shown.lines().filter(|line| !line.contains(" INFO ") && !line.is_empty());
        // Of a warning, not the time.
        let lines = lines.map(|line| line.split_once(" WARN ").map_or(line, |(_, warning)| warning));
        // A run's id, and how long it took, are not the same twice.
        let lines = lines.filter(|line| !line.starts_with("  run id "));
        let lines = lines.map(|line| line.split_once(" calls (").map_or(line, |(summary, _)| summary));
        let lines: Vec<&str> = lines.filter(|line| !line.starts_with("For more information")).collect();
        writeln!(said, "$ face-enroll {command}\n{}\n[{}]\n", lines.join("\n"), ended.code.unwrap()).unwrap();
    }
    insta::assert_snapshot!(said);
}
