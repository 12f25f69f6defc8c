//! Lists of texts in one piece of memory. An app has a dozen short ones, which would each take a place of their own on
//! the heap, and mostly lie there unread: init looks at them when it starts the app. Packed they are lists as any other.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Texts in their order: before each its length, in [`LENGTH`] bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts(Box<[u8]>);

const LENGTH: usize = size_of::<u32>();

impl Texts {
    pub fn iter(&self) -> Iter<'_> {
        Iter(&self.0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn first(&self) -> Option<&str> {
        self.iter().next()
    }

    /// All of them, with this between each two.
    pub fn join(&self, between: &str) -> String {
        self.iter().collect::<Vec<_>>().join(between)
    }
}

/// Goes through [`Texts`].
#[derive(Clone, Debug)]
pub struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (length, rest) = self.0.split_first_chunk::<LENGTH>()?;
        let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        self.0 = rest;
        // Nothing else is ever put in.
        std::str::from_utf8(text).ok()
    }
}

impl<'a> IntoIterator for &'a Texts {
    type Item = &'a str;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<Text: AsRef<str>> FromIterator<Text> for Texts {
    /// A text of four gigabytes, which no program can be given, is left out.
    fn from_iter<List: IntoIterator<Item = Text>>(list: List) -> Texts {
        let mut bytes = Vec::new();
        for text in list {
            let text = text.as_ref();
            if let Ok(length) = u32::try_from(text.len()) {
                bytes.extend_from_slice(&length.to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        Texts(bytes.into())
    }
}

impl<const N: usize> From<[Box<str>; N]> for Texts {
    fn from(list: [Box<str>; N]) -> Texts {
        list.into_iter().collect()
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        Vec::<Box<str>>::deserialize(deserializer).map(|list| list.into_iter().collect())
    }
}

/// Variables, a name and a value each, in the same way.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pairs(Texts);

impl Pairs {
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut texts = self.0.iter();
        std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<Name: AsRef<str>, Value: AsRef<str>> FromIterator<(Name, Value)> for Pairs {
    fn from_iter<List: IntoIterator<Item = (Name, Value)>>(list: List) -> Pairs {
        let mut texts = Vec::new();
        for (name, value) in list {
            texts.extend([name.as_ref().into(), value.as_ref().into()] as [Box<str>; 2]);
        }
        Pairs(texts.into_iter().collect())
    }
}

impl<const N: usize> From<[(Box<str>, Box<str>); N]> for Pairs {
    fn from(list: [(Box<str>, Box<str>); N]) -> Pairs {
        list.into_iter().collect()
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        Vec::<(Box<str>, Box<str>)>::deserialize(deserializer).map(|list| list.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const ODD: [&str; 6] = ["", "a", "ü \0 \"", "", "x\ny", ""];

    #[test]
    fn texts_come_out_as_they_went_in() {
        let texts = Texts::from_iter(ODD);
        assert_eq!(texts.iter().collect::<Vec<_>>(), ODD);
        assert_eq!((texts.first(), texts.is_empty()), (Some(""), false));
        assert_eq!(Texts::from_iter(["-c", "echo"]).join(" "), "-c echo");
        assert_eq!((Texts::default().first(), Texts::default().is_empty()), (None, true));
        assert_ne!(Texts::from_iter(["ab", "c"]), Texts::from_iter(["a", "bc"]));
        let long = "x".repeat(100_000);
        assert_eq!(Texts::from_iter([&long, "y"]).iter().map(str::len).collect::<Vec<_>>(), [100_000, 1]);
    }

    #[test]
    fn packed_they_are_lists_as_any_other() {
        let texts = Texts::from_iter(ODD);
        let packed = serde_json::to_string(&texts).unwrap();
        assert_eq!(packed, serde_json::to_string(&ODD).unwrap());
        assert_eq!(serde_json::from_str::<Texts>(&packed).unwrap(), texts);
        let pairs = Pairs::from([("PORT".into(), "80".into()), ("EMPTY".into(), "".into())]);
        let packed = serde_json::to_string(&pairs).unwrap();
        assert_eq!(packed, r#"[["PORT","80"],["EMPTY",""]]"#);
        assert_eq!(serde_json::from_str::<Pairs>(&packed).unwrap(), pairs);
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [("PORT", "80"), ("EMPTY", "")]);
        assert_eq!(format!("{pairs:?}"), r#"[("PORT", "80"), ("EMPTY", "")]"#);
    }
}
