//! `pm3 startup` and `pm3 unstartup`: make pm3 and what was saved come back with the machine, and undo that. It writes one
//! file and runs the commands of the machine's init; it says each thing that it did. Without root it does nothing, and
//! prints the one command to run.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::ask::{ERROR, TAG};
use crate::cli::boot::{Platform, Service, shell_word};
use crate::cli::{Exit, Report, whole};
use crate::sys;
use crate::sys::users::Users;

/// Have the machine start pm3, with the apps that `pm3 save` saved
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(
    after_help = "Examples:\n  pm3 startup\n  pm3 startup systemd -u ann --hp /home/ann\n  pm3 startup --dry-run"
)]
pub(in crate::cli) struct Startup {
    #[command(flatten)]
    which: Which,
}

/// Undo `pm3 startup`; what runs goes on
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "Example:\n  pm3 unstartup")]
pub(in crate::cli) struct Unstartup {
    #[command(flatten)]
    which: Which,
}

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
struct Which {
    /// The machine's init; default: the one that is running
    #[arg(value_name = "INIT")]
    platform: Option<Platform>,

    /// The user that pm3 and its apps run as; default: you
    #[arg(short = 'u', long, value_name = "USER")]
    user: Option<String>,

    /// That user's home directory; default: the one in /etc/passwd
    #[arg(long = "hp", value_name = "HOME")]
    home: Option<PathBuf>,

    /// What the service is called; default: pm3-USER
    #[arg(long, value_name = "NAME")]
    service_name: Option<String>,

    /// Print what would be written and run
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn startup(args: &Startup) -> Report {
    act(&args.which, "startup", |platform, service, which| {
        let (file, mode) = platform.file(&service.name);
        let text = platform.text(service);
        if which.dry_run {
            let commands = shown(&platform.enable(&service.name));
            return Report::done(format!("# {}\n{text}\n# then:\n{commands}", file.display()));
        }
        install(platform, service, &file, mode, &text)
    })
}

pub(super) fn unstartup(args: &Unstartup) -> Report {
    act(&args.which, "unstartup", |platform, service, which| {
        let (file, _) = platform.file(&service.name);
        if which.dry_run {
            let remove = vec!["rm".to_owned(), file.display().to_string()];
            let commands = [platform.disable(&service.name), vec![remove], platform.forget()].concat();
            return Report::done(shown(&commands));
        }
        remove(platform, service, &file)
    })
}

/// Finds out whom it is about; says the command for root where this user is not.
fn act(which: &Which, verb: &str, act: impl FnOnce(Platform, &Service, &Which) -> Report) -> Report {
    let Some(platform) = which.platform.or_else(|| Platform::detect(|path| Path::new(path).exists())) else {
        return Report::failed(
            Exit::Failed,
            "neither systemd nor OpenRC runs this machine (no /run/systemd/system, no /run/openrc). In a container make \
             pm3 its entry point, see `pm3 init --help`; elsewhere have your init start `pm3 resurrect --no-daemon`, or \
             name the one to write for: `pm3 startup systemd`",
        );
    };
    let service = match service(which) {
        Ok(service) => service,
        Err(why) => return Report::failed(Exit::Failed, why),
    };
    if sys::place::uid() != 0 && !which.dry_run {
        let head = format!("{TAG} Only root may do that. Copy and run this command:\n");
        let command = for_root(platform, &service, which, verb);
        return Report { out: format!("{command}\n"), err: head, exit: Exit::NotAllowed };
    }
    act(platform, &service, which)
}

fn service(which: &Which) -> Result<Service, String> {
    let users = Users::read();
    let uid = sys::place::uid();
    // Through sudo it is root who asks, for the person who typed it.
    let asking = std::env::var("SUDO_USER").ok().filter(|name| uid == 0 && !name.is_empty());
    let own = || users.by_uid(uid).map(|user| user.name.into());
    let user = which.user.clone().or(asking).or_else(own).ok_or_else(|| {
        format!("uid {uid} has no name in /etc/passwd; name the user that pm3 is to run as with -u USER")
    })?;
    let known = users.by_name(&user).ok_or_else(|| format!("-u {user}: no such user in /etc/passwd"))?;
    let home = which.home.clone().unwrap_or_else(|| known.home.to_string().into());
    if !home.is_absolute() {
        return Err(format!("--hp {}: expected an absolute path", home.display()));
    }
    let program = std::env::current_exe().map_err(|error| format!("cannot tell where pm3 itself is: {error}"))?;
    let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    let service = Service {
        name: which.service_name.clone().unwrap_or_else(|| format!("pm3-{user}")),
        user,
        home,
        program,
        path: variable("PATH")
            .map_or_else(|| "/usr/local/bin:/usr/bin:/bin".into(), |path| path.to_string_lossy().into()),
        pm3_home: variable("PM3_HOME").map(PathBuf::from).filter(|home| home.is_absolute()),
    };
    service.checked()
}

/// The command that does for root what this one cannot.
fn for_root(platform: Platform, service: &Service, which: &Which, verb: &str) -> String {
    let mut words = vec!["sudo".to_owned(), "env".to_owned(), format!("PATH={}", service.path)];
    words.extend(service.pm3_home.iter().map(|home| format!("PM3_HOME={}", home.display())));
    words.extend([service.program.display().to_string(), verb.to_owned(), platform.word().to_owned()]);
    words.extend(["-u".to_owned(), service.user.clone(), "--hp".to_owned(), service.home.display().to_string()]);
    words.extend(which.service_name.iter().flat_map(|name| ["--service-name".to_owned(), name.clone()]));
    words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

fn install(platform: Platform, service: &Service, file: &Path, mode: u32, text: &str) -> Report {
    let mut said = Said::default();
    let before = fs::read_to_string(file).ok();
    if before.as_deref() == Some(text) {
        said.line(format!("{} is there already", file.display()));
    } else if let Err(error) = whole::write(file, mode, text) {
        return said.failed(format!("{}: cannot write it: {}", file.display(), sys::why(sys::errno::of(&error))));
    } else {
        said.line(format!("{} {}", if before.is_some() { "Replaced" } else { "Wrote" }, file.display()));
    }
    for command in platform.enable(&service.name) {
        if let Err(why) = run(&command) {
            return said.failed(format!("{why}; the file stays, mend that and run this again"));
        }
        said.line(format!("Ran {}", command.join(" ")));
    }
    said.line(format!("pm3 starts with this machine from now on, as {}, with what `pm3 save` saved", service.user));
    said.line(format!("To start it now, where none runs yet: {}", platform.start_now(&service.name)));
    said.line(format!("To undo this: {}", undo(platform, service)));
    said.done()
}

/// The arguments with which `unstartup` finds this service again.
fn undo(platform: Platform, service: &Service) -> String {
    let name = (service.name != format!("pm3-{}", service.user)).then(|| format!(" --service-name {}", service.name));
    format!("pm3 unstartup {} -u {}{}", platform.word(), shell_word(&service.user), name.unwrap_or_default())
}

fn remove(platform: Platform, service: &Service, file: &Path) -> Report {
    let mut said = Said::default();
    if !file.exists() {
        let named = "pm3 was not started with this machine by that name; is it another --service-name or -u?";
        return said.failed(format!("{}: there is no such file; {named}", file.display()));
    }
    for command in platform.disable(&service.name) {
        match run(&command) {
            Ok(()) => said.line(format!("Ran {}", command.join(" "))),
            // The file has to go all the same.
            Err(why) => said.trouble(why),
        }
    }
    if let Err(error) = fs::remove_file(file) {
        return said.failed(format!("{}: cannot remove it: {}", file.display(), sys::why(sys::errno::of(&error))));
    }
    said.line(format!("Removed {}", file.display()));
    for command in platform.forget() {
        match run(&command) {
            Ok(()) => said.line(format!("Ran {}", command.join(" "))),
            Err(why) => said.trouble(why),
        }
    }
    said.line("pm3 does not start with this machine any more; what runs now goes on".to_owned());
    said.done()
}

/// Runs a command of the machine's init; an error is what it said.
fn run(command: &[String]) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let line = command.join(" ");
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = done.map_err(|error| format!("{line}: {}", sys::why(sys::errno::of(&error))))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{line}: {}", said.lines().next().map_or_else(|| output.status.to_string(), str::to_owned)))
}

fn shown(commands: &[Vec<String>]) -> String {
    let line = |command: &Vec<String>| command.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ");
    commands.iter().map(|command| format!("{}\n", line(command))).collect()
}

/// What was done so far, a line each.
#[derive(Default)]
struct Said {
    out: String,
    err: String,
}

impl Said {
    fn line(&mut self, text: String) {
        self.out.push_str(&format!("{TAG} {text}\n"));
    }

    fn trouble(&mut self, why: String) {
        self.err.push_str(&format!("{ERROR}{why}\n"));
    }

    fn failed(mut self, why: String) -> Report {
        self.trouble(why);
        self.done()
    }

    fn done(self) -> Report {
        let exit = if self.err.is_empty() { Exit::Done } else { Exit::Failed };
        Report { out: self.out, err: self.err, exit }
    }
}
