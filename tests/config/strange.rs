//! Mangled files: whatever the text, the answer is a plan or mistakes with places inside of it.

use std::fs;
use std::path::Path;

use pm3::config::{self, Form, Place, Wanted};

use super::keys::{KEYS, with_key};
use super::{Rng, facts, toml_files};

/// A file with a bit of everything, mangled.
fn mangled(rng: &mut Rng, good: &str) -> String {
    const PIECES: &[&str] = &[
        "\"",
        "'",
        "\"\"\"",
        "[",
        "]",
        "[[",
        "{",
        "}",
        "=",
        "\n",
        "\r\n",
        ".",
        ",",
        "$",
        "${",
        "}",
        "\\",
        "#",
        "ä",
        "🦀",
        "\0",
        "\u{feff}",
        "0",
        "-1",
        "1e999",
        "99999999999999999999",
        "true",
        "nan",
        "1979-05-27",
        "[[apps]]\n",
        "[pm3]\n",
        "[apps.env]\n",
        "name",
        "script = 'x'\n",
        "after = ['web']\n",
        "${PORT}",
        "'%'",
        "0x",
        "0o777",
    ];
    let mut text: Vec<char> = good.chars().collect();
    for _ in 0..=rng.below(6) {
        let at = rng.below(text.len() + 1);
        let end = (at + rng.below(20)).min(text.len());
        match rng.below(6) {
            0 => text.truncate(at),
            1 => drop(text.drain(at..end)),
            2 => drop(text.splice(at..at, PIECES[rng.below(PIECES.len())].chars())),
            3 => drop(text.splice(at..end, PIECES[rng.below(PIECES.len())].chars())),
            4 => {
                let copy: Vec<char> = text[at..end].to_vec();
                let to = rng.below(text.len() + 1);
                text.splice(to..to, copy);
            }
            _ => {
                if let Some(letter) = text.get_mut(at) {
                    *letter = char::from_u32(rng.below(0x250) as u32).unwrap();
                }
            }
        }
    }
    text.into_iter().collect()
}

#[test]
fn no_text_is_too_strange() {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut good: Vec<String> = toml_files(&conf).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    good.push(KEYS.iter().map(|(key, value, _)| with_key(key, value)).collect());
    good.push(KEYS.iter().map(|(key, _, value)| with_key(key, value)).collect());
    let (mut read, mut refused) = (0, 0);
    for seed in 1..=3000 {
        let mut rng = Rng::new(seed);
        let text = {
            let one = rng.below(good.len());
            mangled(&mut rng, &good[one])
        };
        match config::parse("f", &text, None, &facts()) {
            Ok(spec) => {
                read += 1;
                assert_eq!(config::unpack(&config::pack(&spec)).unwrap(), spec, "seed {seed}");
                assert!(!config::plan_text(&spec).is_empty());
            }
            Err(mistakes) => {
                refused += 1;
                assert!(!mistakes.is_empty(), "seed {seed}");
                for mistake in mistakes {
                    let Place::Line { line, col } = mistake.place else { panic!("seed {seed}: {mistake}") };
                    let line = text.split('\n').nth(line - 1);
                    let inside = line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&col));
                    assert!(inside && !mistake.text.contains('\n'), "seed {seed}: {mistake}");
                }
            }
        }
    }
    assert!(read > 100 && refused > 1000, "the mangling is too weak or too strong: {read} read, {refused} refused");
}

/// The same apps in the languages of PM2's files.
const FOREIGN: &[(Form, &str)] = &[
    (
        Form::Json,
        r#"
// The apps.
{ "apps": [
    { name: 'web', script: "server.js", args: ["--port", 0x50, 1e3, -.5], env: { "PORT": 3000, 'Ü': "a\u00e4\n" },
      instances: "max", watch: ["lib", 'src'], /* more */ max_memory_restart: '300M', autorestart: true },
    { name: "db", script: 'db.py', after: "web", stop_exit_codes: [0, 143,], pmx: false, interpreter: null, },
  ],
  deploy: { production: { user: 'x' } } }
"#,
    ),
    (
        Form::Yaml,
        r#"# The apps.
x-all: &all
  max_memory_restart: 300M
  env: &env { PORT: 3000, Ü: "a\u00e4\n", 'B': ~ }
apps:
  - <<: *all
    name: web
    script: server.js
    args: ['--port', 0x50, 1e3, -.5]
    instances: max
    watch:
    - lib
    - src
  - name: db
    script: >-
      db.py
    after: web
    env:
      <<: *env
      TEXT: |
        two
        lines
    stop_exit_codes: [0, !!int 143]
    pmx: false
"#,
    ),
];

#[test]
fn no_foreign_text_is_too_strange() {
    let (mut read, mut refused) = (0, 0);
    for (form, good) in FOREIGN {
        assert!(config::read("f", *form, good, &Wanted::default(), &facts()).is_ok(), "{form:?}");
        for seed in 1..=1500 {
            let text = mangled(&mut Rng::new(seed), good);
            match config::read("f", *form, &text, &Wanted::default(), &facts()) {
                Ok(_) => read += 1,
                Err(mistakes) => {
                    refused += 1;
                    assert!(!mistakes.is_empty(), "{form:?}, seed {seed}");
                    for mistake in mistakes {
                        let Place::Line { line, col } = mistake.place else { panic!("seed {seed}: {mistake}") };
                        let line = text.split('\n').nth(line - 1);
                        let inside = line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&col));
                        assert!(inside && !mistake.text.contains('\n'), "{form:?}, seed {seed}: {mistake}\n{text}");
                    }
                }
            }
        }
    }
    assert!(read > 50 && refused > 1500, "the mangling is too weak or too strong: {read} read, {refused} refused");
}

#[test]
fn a_megabyte_of_nonsense_is_answered_as_a_line_of_it() {
    let many = |piece: &str| piece.repeat((1 << 20) / piece.len() - 200);
    let keys = |count: usize| (0..count).map(|index| format!("key{index}=1,")).collect::<String>();
    let names = |count: usize| (0..count).map(|index| format!("'a{index}',")).collect::<String>();
    for (what, text) in [
        ("lines", many("x\n")),
        ("brackets", many("[")),
        ("one key", format!("[[apps]]\n{} = 1", many("k"))),
        ("one text", format!("[[apps]]\nkill_timeout = '{}'", many("k"))),
        ("unknown keys", format!("apps = [{{{}}}]", keys(80_000))),
        ("unknown names", format!("[[apps]]\nscript = 'x'\nafter = [{}]", names(100_000))),
        ("wrong arguments", format!("[[apps]]\nscript = 'x'\nargs = [{}]", many("[],"))),
        ("no apps", format!("apps = [{}]", many("1,"))),
        ("apps with one name", many("[[apps]]\nscript='x'\n")),
        ("variables", format!("[[apps]]\nscript = 'x'\ncwd = '{}'", many("${X}"))),
    ] {
        let mistakes = config::parse("f", &text, None, &facts()).expect_err(what);
        assert!((1..=100).contains(&mistakes.len()), "{what}: {}", mistakes.len());
        assert!(mistakes.iter().all(|mistake| mistake.text.len() < 2000), "{what}");
    }
}
