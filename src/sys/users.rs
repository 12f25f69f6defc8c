//! Users and groups, read from /etc/passwd and /etc/group by our own hand: a static binary has no NSS, and in a
//! container these two files are all there is. The parsers are pure; a line that is not well-formed is passed over,
//! as libc does (passwd(5), group(5)).

use std::fs;

/// A line of /etc/passwd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: Box<str>,
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    pub home: Box<str>,
}

/// The two files as text. One that cannot be read is empty: nobody is known then.
#[derive(Clone, Debug, Default)]
pub struct Users {
    passwd: String,
    group: String,
}

impl Users {
    /// Reads /etc/passwd and /etc/group.
    pub fn read() -> Users {
        let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        Users { passwd: text("/etc/passwd"), group: text("/etc/group") }
    }

    pub fn parse(passwd: &str, group: &str) -> Users {
        Users { passwd: passwd.into(), group: group.into() }
    }

    fn users(&self) -> impl Iterator<Item = User> + '_ {
        self.passwd.lines().filter_map(user)
    }

    fn groups(&self) -> impl Iterator<Item = Group<'_>> + '_ {
        self.group.lines().filter_map(group)
    }

    pub fn by_name(&self, name: &str) -> Option<User> {
        self.users().find(|user| &*user.name == name)
    }

    pub fn by_uid(&self, uid: u32) -> Option<User> {
        self.users().find(|user| user.uid == uid)
    }

    /// The number of a group given by name or, if no group has that name, by number.
    pub fn gid(&self, text: &str) -> Option<u32> {
        self.groups().find(|group| group.name == text).map(|group| group.gid).or_else(|| id(text))
    }

    /// `base` and every group that lists the user as a member, each once (getgrouplist(3)).
    pub fn groups_of(&self, name: &str, base: u32) -> Vec<u32> {
        let mut found = vec![base];
        for group in self.groups().filter(|group| group.members.split(',').any(|member| member == name)) {
            if !found.contains(&group.gid) {
                found.push(group.gid);
            }
        }
        found
    }

    /// Whether the user is in the group, by primary group or as a listed member.
    pub fn is_member(&self, uid: u32, gid: u32) -> bool {
        self.users().filter(|user| user.uid == uid).any(|user| self.groups_of(&user.name, user.gid).contains(&gid))
    }
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// `name:password:uid:gid:comment:home:shell`; the shell may be missing.
fn user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| is_name(name))?;
    let uid = id(fields.nth(1)?)?;
    let gid = id(fields.next()?)?;
    let home = fields.nth(1).unwrap_or_default();
    Some(User { name: name.into(), uid, gid, home: home.into() })
}

/// `name:password:gid:member,member`.
fn group(line: &str) -> Option<Group<'_>> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| is_name(name))?;
    let gid = id(fields.nth(1)?)?;
    Some(Group { name, gid, members: fields.next().unwrap_or_default().trim_end() })
}

/// Not a comment, and none of NIS's `+` and `-` lines.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['#', '+', '-'])
}

/// A numeric id. The highest number means "unchanged" to the kernel and is nobody's.
pub fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/bash
# a comment:x:7:7::/:
+nis::::::
broken:x:12
daemon:x:one:1:daemon:/usr/sbin:/usr/sbin/nologin
max:x:4294967295:1::/:
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
web:x:1000:1000:Web,,,:/home/web
1234:x:4321:4321::/:/bin/sh
";
    const GROUP: &str = "\
root:x:0:
adm:x:4:syslog,web
tty:x:5:web,www-data\r
www-data:x:33:
web:x:1000:web
twice:x:4:web
";

    fn users() -> Users {
        Users::parse(PASSWD, GROUP)
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let web = users().by_name("web");
        assert_eq!(web, Some(User { name: "web".into(), uid: 1000, gid: 1000, home: "/home/web".into() }));
        assert_eq!(users().by_uid(33).map(|user| user.name), Some("www-data".into()));
        assert_eq!(users().by_name("1234").map(|user| user.uid), Some(4321));
    }

    #[test]
    fn malformed_lines_are_nobody() {
        for name in ["", "#", "# a comment", "+nis", "broken", "daemon", "max", "we"] {
            assert_eq!(users().by_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn groups_are_found_by_name_or_number() {
        assert_eq!(users().gid("adm"), Some(4));
        assert_eq!(users().gid("77"), Some(77));
        for text in ["nogroup", "-1", "+5", "4294967295", "4294967296", ""] {
            assert_eq!(users().gid(text), None, "{text:?}");
        }
    }

    #[test]
    fn memberships_are_listed_once() {
        assert_eq!(users().groups_of("web", 1000), [1000, 4, 5]);
        assert_eq!(users().groups_of("www-data", 33), [33, 5]);
        assert_eq!(users().groups_of("nobody", 9), [9]);
        assert!(users().is_member(1000, 4));
        assert!(users().is_member(33, 33));
        assert!(!users().is_member(33, 4));
        assert!(!users().is_member(4, 4));
    }
}
