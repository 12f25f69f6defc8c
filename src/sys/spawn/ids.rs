//! Which user and groups a child becomes: names are looked up here, before the fork; `child` only makes the calls.

use super::explained;
use crate::supervisor::event::{Failure, Stage};
use crate::sys::users::{self, Users};

/// The ids to take on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub groups: Groups,
}

/// The supplementary groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Groups {
    /// No ids were asked for: as they are.
    #[default]
    Keep,
    /// A user without a name has none; who may not drop them keeps them.
    Clear,
    /// Those of a named user.
    Set(Vec<u32>),
}

/// The ids of a user and a group, by name or number; a user's own group where none is named.
///
/// # Errors
/// `User` or `Group`: the name is unknown.
pub fn resolve(user: Option<&str>, group: Option<&str>) -> Result<Ids, Failure> {
    if user.is_none() && group.is_none() {
        return Ok(Ids::default());
    }
    look_up(&Users::read(), user, group)
}

fn look_up(users: &Users, user: Option<&str>, group: Option<&str>) -> Result<Ids, Failure> {
    let gid = match group {
        Some(name) => Some(users.gid(name).ok_or_else(|| unknown(Stage::Group, name, "no such group in /etc/group"))?),
        None => None,
    };
    let Some(name) = user else { return Ok(Ids { uid: None, gid, groups: Groups::Clear }) };
    let number = users::id(name);
    // A name of digits is a name first, as for chown(1).
    if let Some(entry) = users.by_name(name).or_else(|| users.by_uid(number?)) {
        let gid = gid.unwrap_or(entry.gid);
        let groups = Groups::Set(users.groups_of(&entry.name, gid));
        return Ok(Ids { uid: Some(entry.uid), gid: Some(gid), groups });
    }
    let uid = number.ok_or_else(|| unknown(Stage::User, name, "no such user in /etc/passwd"))?;
    if gid.is_none() && uid != nix::unistd::geteuid().as_raw() {
        // Staying in our own group, which may be root's, would be more than was asked for.
        return Err(unknown(Stage::User, name, "not in /etc/passwd, so its group is unknown: set group as well"));
    }
    Ok(Ids { uid: Some(uid), gid, groups: Groups::Clear })
}

fn unknown(stage: Stage, name: &str, why: &str) -> Failure {
    explained(stage, name, 0, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(user: Option<&str>, group: Option<&str>) -> Result<Ids, String> {
        let users = Users::parse("web:x:1000:1001::/:\n77:x:78:78::/:\n", "web:x:1001:\nlog:x:50:web\n");
        look_up(&users, user, group).map_err(|failure| failure.to_string())
    }

    fn ids(uid: u32, gid: u32, groups: Groups) -> Result<Ids, String> {
        Ok(Ids { uid: Some(uid), gid: Some(gid), groups })
    }

    #[test]
    fn a_named_user_brings_its_groups() {
        assert_eq!(check(Some("web"), None), ids(1000, 1001, Groups::Set(vec![1001, 50])));
        assert_eq!(check(Some("1000"), None), ids(1000, 1001, Groups::Set(vec![1001, 50])));
        assert_eq!(check(Some("web"), Some("log")), ids(1000, 50, Groups::Set(vec![50])));
        assert_eq!(check(Some("77"), None), ids(78, 78, Groups::Set(vec![78])));
    }

    #[test]
    fn a_number_without_a_name_needs_a_group() {
        assert_eq!(check(Some("4000000"), Some("9")), ids(4_000_000, 9, Groups::Clear));
        let error = "start failed at user 4000000: not in /etc/passwd, so its group is unknown: set group as well";
        assert_eq!(check(Some("4000000"), None), Err(error.into()));
    }

    #[test]
    fn a_group_alone_changes_the_group_alone() {
        assert_eq!(check(None, Some("log")), Ok(Ids { uid: None, gid: Some(50), groups: Groups::Clear }));
    }

    #[test]
    fn unknown_names_are_named() {
        assert_eq!(check(Some("wbe"), None), Err("start failed at user wbe: no such user in /etc/passwd".into()));
        assert_eq!(
            check(Some("web"), Some("logs")),
            Err("start failed at group logs: no such group in /etc/group".into())
        );
    }
}
