//! `user` and `user:group` of an exec, looked up in the sandbox's own files.

use super::files::Root;
use super::spawn::Identity;

/// The most that is read of a user database, in bytes.
const LIMIT: usize = 4 << 20;

/// A user that was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name, or its number when it has none.
    pub name: String,
    /// Its home directory.
    pub home: String,
    /// Whom to run as; `None` for root, as which the guest runs already.
    pub identity: Option<Identity>,
}

impl Account {
    /// Root.
    #[must_use]
    pub fn root() -> Self {
        Self { name: "root".to_owned(), home: "/root".to_owned(), identity: None }
    }
}

/// Looks a `user` or `user:group` up.
///
/// # Errors
/// A reason that names what is unknown.
pub fn look_up(root: &Root, user: &str) -> Result<Account, String> {
    let passwd = root.read_whole("/etc/passwd", LIMIT).unwrap_or_default();
    let group = root.read_whole("/etc/group", LIMIT).unwrap_or_default();
    resolve(user, &String::from_utf8_lossy(&passwd), &String::from_utf8_lossy(&group))
}

fn resolve(user: &str, passwd: &str, groups: &str) -> Result<Account, String> {
    let (user, group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let number = user.parse::<u32>().ok();
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.len() >= 6 && (fields[0] == user || number.is_some_and(|n| fields[2] == n.to_string()))
    });
    let (name, uid, gid, home) = match (&entry, number) {
        (Some(fields), _) => {
            let number = |field: &str| {
                field.parse::<u32>().map_err(|_| format!("user {user}: its line in /etc/passwd is broken"))
            };
            (fields[0].to_owned(), number(fields[2])?, number(fields[3])?, fields[5].to_owned())
        }
        (None, Some(uid)) => (user.to_owned(), uid, uid, "/".to_owned()),
        (None, None) => return Err(format!("user {user}: not in /etc/passwd")),
    };
    let lines = || groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|f| f.len() >= 4);
    let gid = match group {
        None => gid,
        Some(group) => match lines().find(|fields| fields[0] == group) {
            Some(fields) => fields[2].parse().map_err(|_| format!("group {group}: its line is broken"))?,
            None => group.parse().map_err(|_| format!("group {group}: not in /etc/group"))?,
        },
    };
    let mut others: Vec<u32> = lines()
        .filter(|fields| fields[3].split(',').any(|member| member == name))
        .filter_map(|fields| fields[2].parse().ok())
        .filter(|other| *other != gid)
        .collect();
    // The kernel takes at most 65,536; no real file has so many.
    others.truncate(1000);
    let is_root = uid == 0 && gid == 0 && (others.is_empty() || group.is_none());
    let identity = (!is_root).then_some(Identity { uid, gid, groups: others });
    Ok(Account { name, home, identity })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nbob:x:1000:\nwheel:x:10:bob,eve\n";

    #[test]
    fn names_and_numbers_are_found() {
        let bob = resolve("bob", PASSWD, GROUP).unwrap();
        assert_eq!((bob.name.as_str(), bob.home.as_str()), ("bob", "/home/bob"));
        assert_eq!(bob.identity, Some(Identity { uid: 1000, gid: 1000, groups: vec![10] }));
        assert_eq!(resolve("1000", PASSWD, GROUP).unwrap(), bob);
        let wheel = resolve("bob:wheel", PASSWD, GROUP).unwrap();
        assert_eq!(wheel.identity.unwrap().gid, 10);
        let stranger = resolve("4242", PASSWD, GROUP).unwrap();
        assert_eq!(stranger.identity, Some(Identity { uid: 4242, gid: 4242, groups: vec![] }));
    }

    #[test]
    fn root_needs_no_change() {
        assert_eq!(resolve("root", PASSWD, GROUP).unwrap().identity, None);
        assert_eq!(resolve("0", "", "").unwrap().identity, None);
    }

    #[test]
    fn what_is_unknown_is_named() {
        assert_eq!(resolve("eve", PASSWD, GROUP).unwrap_err(), "user eve: not in /etc/passwd");
        assert_eq!(resolve("bob:nix", PASSWD, GROUP).unwrap_err(), "group nix: not in /etc/group");
    }
}
