//! What the machine's own init has to be told so that pm3 and its apps come back with the machine: a service for systemd
//! or OpenRC. Pure: what it depends on comes in, texts and commands come out; `pm3 startup` does what they say.
//!
//! The service is `pm3 resurrect --no-daemon`: one process, in the foreground, which starts what `pm3 save` saved and
//! listens where this user's commands look for it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The kinds of init that pm3 knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Platform {
    Systemd,
    Openrc,
}

/// Whom and what the service runs. Texts of a person: see [`Service::checked`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) user: String,
    /// The user's home directory.
    pub(super) home: PathBuf,
    /// pm3's own program.
    pub(super) program: PathBuf,
    /// `$PATH`: interpreters are found in it.
    pub(super) path: String,
    /// `$PM3_HOME`, where it is set: commands look there.
    pub(super) pm3_home: Option<PathBuf>,
}

/// How long the machine's init waits for pm3 to end, in seconds: more than pm3's own budget, which is 9 s.
const STOP_SECONDS: u32 = 20;

impl Platform {
    /// The one that this machine was started with; `exists` looks at a path.
    pub(super) fn detect(exists: impl Fn(&str) -> bool) -> Option<Platform> {
        // sd_booted(3); and what OpenRC makes when it has begun.
        if exists("/run/systemd/system") {
            Some(Platform::Systemd)
        } else if exists("/run/openrc") {
            Some(Platform::Openrc)
        } else {
            None
        }
    }

    /// As it is typed.
    pub(super) fn word(self) -> &'static str {
        match self {
            Platform::Systemd => "systemd",
            Platform::Openrc => "openrc",
        }
    }

    /// Where the service is written, and with which mode.
    pub(super) fn file(self, name: &str) -> (PathBuf, u32) {
        match self {
            Platform::Systemd => (Path::new("/etc/systemd/system").join(format!("{name}.service")), 0o644),
            Platform::Openrc => (Path::new("/etc/init.d").join(name), 0o755),
        }
    }

    /// What makes it start with the machine.
    pub(super) fn enable(self, name: &str) -> Vec<Vec<String>> {
        match self {
            Platform::Systemd => vec![words("systemctl daemon-reload"), words(&format!("systemctl enable {name}"))],
            Platform::Openrc => vec![words(&format!("rc-update add {name} default"))],
        }
    }

    /// What undoes that, before its file is removed.
    pub(super) fn disable(self, name: &str) -> Vec<Vec<String>> {
        match self {
            Platform::Systemd => vec![words(&format!("systemctl disable {name}"))],
            Platform::Openrc => vec![words(&format!("rc-update del {name} default"))],
        }
    }

    /// And after.
    pub(super) fn forget(self) -> Vec<Vec<String>> {
        match self {
            Platform::Systemd => vec![words("systemctl daemon-reload")],
            Platform::Openrc => Vec::new(),
        }
    }

    /// How a person starts it without starting the machine again.
    pub(super) fn start_now(self, name: &str) -> String {
        match self {
            Platform::Systemd => format!("systemctl start {name}"),
            Platform::Openrc => format!("rc-service {name} start"),
        }
    }

    pub(super) fn text(self, service: &Service) -> String {
        match self {
            Platform::Systemd => systemd(service),
            Platform::Openrc => openrc(service),
        }
    }
}

impl Service {
    /// # Errors
    /// A text that no service file can hold, or a name that is no file's.
    pub(super) fn checked(self) -> Result<Service, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if self.name.is_empty() || self.name.starts_with(['-', '.']) || !self.name.chars().all(plain) {
            return Err(format!("--service-name {}: expected letters, digits and -_.@", self.name.escape_debug()));
        }
        let path = |path: &Path| path.display().to_string();
        let mut texts = vec![("user", self.user.clone()), ("$PATH", self.path.clone())];
        texts.extend([("home", path(&self.home)), ("pm3's own path", path(&self.program))]);
        texts.extend(self.pm3_home.iter().map(|home| ("$PM3_HOME", path(home))));
        for (what, text) in texts {
            if text.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
                return Err(format!("{what}: {} cannot stand in a service file", text.escape_debug()));
            }
        }
        // No value of a unit's `User=` can say that.
        if self.user.ends_with('\\') || self.user.trim() != self.user {
            return Err(format!("user: \"{}\" cannot stand in a service file", self.user));
        }
        Ok(self)
    }

    /// What the service finds in its environment.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("HOME", self.home.display().to_string()), ("PATH", self.path.clone())];
        all.extend(self.pm3_home.iter().map(|home| ("PM3_HOME", home.display().to_string())));
        all
    }
}

/// systemd.service(5), systemd.exec(5), systemd.kill(5).
fn systemd(service: &Service) -> String {
    let Service { user, program, home, .. } = service;
    let program = unit_word(&program.display().to_string());
    let environment = service.environment().into_iter().fold(String::new(), |mut lines, (name, value)| {
        let _ = writeln!(lines, "Environment={}", unit_word(&format!("{name}={value}")));
        lines
    });
    format!(
        "\
[Unit]
Description=pm3, the process manager, for {user}
Wants=network-online.target
After=network-online.target

[Service]
User={user}
WorkingDirectory={home}
{environment}ExecStart={program} resurrect --no-daemon
ExecReload={program} reload all
Restart=on-failure
# pm3 stops its apps in order; what is left after that is killed.
KillMode=mixed
TimeoutStopSec={STOP_SECONDS}
# An app that is killed for want of memory is restarted by pm3, and no reason to stop the others.
OOMPolicy=continue

[Install]
WantedBy=multi-user.target
",
        user = user.replace('%', "%%"),
        home = unit_directory(home),
    )
}

/// A directory that stands for itself. Quotes and escapes are not read there; but a backslash at the end of a line joins
/// the next one to it, and blanks there are dropped (systemd.syntax(7)). A slash at the end means nothing.
fn unit_directory(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%");
    if text.ends_with(|c: char| c == '\\' || c.is_whitespace()) { text + "/" } else { text }
}

/// A word of a unit: in quotes, with what would be replaced written twice.
fn unit_word(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{text}\"")
}

/// openrc-run(8), supervise-daemon(8).
fn openrc(service: &Service) -> String {
    let Service { name, user, program, home, .. } = service;
    let path = |path: &Path| shell_word(&path.display().to_string());
    let environment = service.environment().into_iter().fold(String::new(), |mut lines, (name, value)| {
        let _ = writeln!(lines, "export {name}={}", shell_word(&value));
        lines
    });
    format!(
        "\
#!/sbin/openrc-run
description={description}
supervisor=supervise-daemon
command={program}
command_args=\"resurrect --no-daemon\"
command_user={user}
directory={home}
retry=\"TERM/{STOP_SECONDS}/KILL/5\"
respawn_delay=1
{environment}
depend() {{
\tneed net
\tafter firewall
}}

extra_started_commands=\"reload\"
reload() {{
\tebegin \"Reloading the apps of {name}\"
\tsu -s /bin/sh {user} -c {reload}
\teend $?
}}
",
        description = shell_word(&format!("pm3, the process manager, for {user}")),
        program = path(program),
        user = shell_word(user),
        home = path(home),
        reload = shell_word(&format!("{} reload all", path(program))),
    )
}

/// A word that a shell reads as this text.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn service(user: &str, home: &str, program: &str) -> Service {
        Service {
            name: format!("pm3-{user}"),
            user: user.to_owned(),
            home: home.into(),
            program: program.into(),
            path: "/opt/node/bin:/usr/bin".to_owned(),
            pm3_home: None,
        }
    }

    #[test]
    fn systemd_gets_a_unit() {
        expect![[r#"
            [Unit]
            Description=pm3, the process manager, for ann
            Wants=network-online.target
            After=network-online.target

            [Service]
            User=ann
            WorkingDirectory=/home/ann
            Environment="HOME=/home/ann"
            Environment="PATH=/opt/node/bin:/usr/bin"
            ExecStart="/usr/local/bin/pm3" resurrect --no-daemon
            ExecReload="/usr/local/bin/pm3" reload all
            Restart=on-failure
            # pm3 stops its apps in order; what is left after that is killed.
            KillMode=mixed
            TimeoutStopSec=20
            # An app that is killed for want of memory is restarted by pm3, and no reason to stop the others.
            OOMPolicy=continue

            [Install]
            WantedBy=multi-user.target
        "#]]
        .assert_eq(&Platform::Systemd.text(&service("ann", "/home/ann", "/usr/local/bin/pm3")));
    }

    #[test]
    fn openrc_gets_a_script() {
        let mut odd = service("ann", "/home/ann o'neil", "/opt/my tools/pm3");
        odd.pm3_home = Some("/var/lib/pm3".into());
        expect![[r#"
            #!/sbin/openrc-run
            description='pm3, the process manager, for ann'
            supervisor=supervise-daemon
            command='/opt/my tools/pm3'
            command_args="resurrect --no-daemon"
            command_user=ann
            directory='/home/ann o'\''neil'
            retry="TERM/20/KILL/5"
            respawn_delay=1
            export HOME='/home/ann o'\''neil'
            export PATH=/opt/node/bin:/usr/bin
            export PM3_HOME=/var/lib/pm3

            depend() {
            	need net
            	after firewall
            }

            extra_started_commands="reload"
            reload() {
            	ebegin "Reloading the apps of pm3-ann"
            	su -s /bin/sh ann -c ''\''/opt/my tools/pm3'\'' reload all'
            	eend $?
            }
        "#]]
        .assert_eq(&Platform::Openrc.text(&odd));
    }

    #[test]
    fn a_unit_has_no_word_that_means_something_else() {
        let mut odd = service("ann", "/home/100% \"ann\"", "/opt/my tools\\/pm3");
        odd.path = "/a b:/%h".to_owned();
        let text = Platform::Systemd.text(&odd);
        for line in [
            r#"Environment="HOME=/home/100%% \"ann\"""#,
            r#"Environment="PATH=/a b:/%%h""#,
            r#"ExecStart="/opt/my tools\\/pm3" resurrect --no-daemon"#,
            r#"WorkingDirectory=/home/100%% "ann""#,
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_line_of_a_unit_ends_where_it_ends() {
        for (home, directory) in [
            (r"/home/ann\", r"WorkingDirectory=/home/ann\/"),
            (r"/home/ann\\", r"WorkingDirectory=/home/ann\\/"),
            ("/home/ann ", "WorkingDirectory=/home/ann /"),
            (r"/home/a\nn", r"WorkingDirectory=/home/a\nn"),
        ] {
            let mut odd = service("ann", home, r"/opt/pm3\");
            odd.path = r"/bin:/opt\".to_owned();
            odd.pm3_home = Some(home.into());
            let text = Platform::Systemd.text(&odd);
            assert!(text.lines().any(|own| own == directory), "{directory}\n{text}");
            // As systemd joins lines: a backslash is one that nothing escapes.
            let joins = |line: &str| line.chars().fold(false, |escaped, c| !escaped && c == '\\');
            assert_eq!(text.lines().filter(|line| joins(line)).count(), 0, "{text}");
            assert!(text.lines().any(|own| own == r#"ExecStart="/opt/pm3\\" resurrect --no-daemon"#), "{text}");
        }
    }

    #[test]
    fn what_no_service_can_hold_is_refused() {
        let good = service("ann", "/home/ann", "/pm3");
        assert!(good.clone().checked().is_ok());
        for bad in [
            Service { name: "../x".to_owned(), ..good.clone() },
            Service { name: String::new(), ..good.clone() },
            Service { name: "-x".to_owned(), ..good.clone() },
            Service { home: "/home/a\nExecStart=/bin/sh".into(), ..good.clone() },
            Service { path: "/bin\n".to_owned(), ..good.clone() },
            Service { pm3_home: Some("/a\tb".into()), ..good.clone() },
            Service { user: "ann\\".to_owned(), ..good.clone() },
            Service { user: " ann".to_owned(), ..good.clone() },
        ] {
            assert!(bad.clone().checked().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_machines_init_is_known_by_what_it_leaves_in_run() {
        for (there, found) in [
            ("/run/systemd/system", Some(Platform::Systemd)),
            ("/run/openrc", Some(Platform::Openrc)),
            ("/sbin/openrc-run", None),
        ] {
            assert_eq!(Platform::detect(|path| path == there), found);
        }
    }

    #[test]
    fn a_shell_reads_what_was_meant() {
        for (text, word) in [("a-b/c", "a-b/c"), ("", "''"), ("a b", "'a b'"), ("it's", "'it'\\''s'"), ("$x", "'$x'")] {
            assert_eq!(shell_word(text), word);
        }
    }
}
