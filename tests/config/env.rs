//! An app's variables: files, tables, profiles, and that no value of one is ever shown.

use std::fs;

use expect_test::expect;
use pm3::config::{self, Facts};

use super::{Scratch, show};

fn env(facts: &Facts, profile: Option<&str>, text: &str) -> String {
    match config::parse("pm3.toml", &format!("[[apps]]\nscript = 'x'\n{text}"), profile, facts) {
        Ok(spec) => spec.apps[0].launch.env.iter().map(|(name, value)| format!("{name}={value}\n")).collect(),
        Err(mistakes) => show(&mistakes),
    }
}

#[test]
fn variables_come_from_files_then_env_then_the_profile() {
    let dir = Scratch::new();
    dir.write(".env", "A=file\nB=file\nexport C='file $PORT'\n");
    dir.write("more.env", "B=more # note\nPORT=1\n");
    let text = r#"
        env_file = [".env", "more.env", "-none.env"]
        args = "$A $B $PORT"
        [apps.env]
        A = "env"
        D = "${B} ${PORT} ${HOME}"
        NUMBER = 0x10
        FLOAT = 1.50
        FLAG = true
        EMPTY = ""
        [apps.env_prod]
        A = "prod, was ${A}"
        [apps.env_dev]
        A = "${NOT_SET_HERE}"
    "#;
    expect![[r#"
        A=prod, was env
        B=more
        C=file $PORT
        D=more 1 /root
        EMPTY=
        FLAG=true
        FLOAT=1.50
        NUMBER=16
        PORT=1
    "#]]
    .assert_eq(&env(&dir.facts(), Some("prod"), text));
    assert!(env(&dir.facts(), None, text).contains("A=env\n"));
    expect![[r#"
        pm3.toml:16:9: x: env_dev.A: NOT_SET_HERE is not set; ${NOT_SET_HERE:-value} gives it a default, $$ is a plain dollar
    "#]].assert_eq(&env(&dir.facts(), Some("dev"), text));
    expect![[r#"
        pm3.toml: profile prd: no app has env_prd, did you mean prod? there is dev, prod
    "#]]
    .assert_eq(&env(&dir.facts(), Some("prd"), text));
    expect![[r#"
        pm3.toml: profile prod: no app has env_prod
    "#]]
    .assert_eq(&env(&dir.facts(), Some("prod"), ""));
}

#[test]
fn an_env_file_belongs_to_the_apps_directory() {
    let dir = Scratch::new();
    fs::create_dir(dir.0.join("shop")).unwrap();
    dir.write("shop/.env", "HERE=shop\n");
    assert_eq!(env(&dir.facts(), None, "cwd = 'shop'\nenv_file = '.env'"), "HERE=shop\n");
}

#[test]
fn mistakes_in_env_files_have_their_own_place_and_show_no_value() {
    let dir = Scratch::new();
    dir.write("bad.env", "A=1\n  hunter2\nB='open\nhunter2\n");
    dir.write("latin.env", b"A=1\nB=\xe4\n");
    let text = "env_file = ['bad.env', 'latin.env', 'none.env', '.', '-none.env']\nkill_timeout = 'x'";
    expect![[r#"
        pm3.toml:3:37: x: env_file: DIR/none.env cannot be read: no such file or directory
        pm3.toml:3:49: x: env_file: DIR/. cannot be read: is a directory
        pm3.toml:4:1: x: kill_timeout = 'x': expected a time up to 49 days, as 1500 (ms), "200ms", "1.5s", "2m" or "1h"
        DIR/bad.env:2:3: x: expected KEY=VALUE
        DIR/bad.env:3:3: x: a ' is not closed
        DIR/bad.env:4:1: x: expected KEY=VALUE
        DIR/latin.env:2:3: not UTF-8 from here on
    "#]]
    .assert_eq(&dir.neutral(&env(&dir.facts(), None, text)));
    let secret = env(&dir.facts(), None, "env = 'hunter2'\n[apps.env_prod]\nPASSWORD = ['hunter2']\nX = '${hunter2'");
    expect![[r#"
        pm3.toml:3:1: x: env: expected a table of variables, each a text, a number or a boolean
        pm3.toml:5:1: x: env_prod.PASSWORD: expected a text, a number or a boolean
    "#]]
    .assert_eq(&secret);
    assert!(!secret.contains("hunter2"));
}
