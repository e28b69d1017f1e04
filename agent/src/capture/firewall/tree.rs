//! Attributes of netlink as JSON, with names where they are known.
//!
//! nftables does not mark which attributes hold others, and each expression has attributes of its own. What is not known by
//! name is told by its number, and its value by what it can be: a text, a number in network order, others, or hex. The raw
//! message is kept beside it.

use serde_json::{Map, Value};

use crate::capture::sockets::Attributes;

/// How deep attributes nest, at most, and how many are told of one message.
const DEPTH: usize = 12;
const MOST: usize = 4096;

/// What is known of the attributes of a structure: number, name, and the structure inside, if any.
pub struct Known(pub &'static [(u16, &'static str, Option<&'static Known>)]);

/// Attributes of which nothing is known.
pub static UNKNOWN: Known = Known(&[]);

/// An expression of a rule: `enum nft_expr_attributes`, `include/uapi/linux/netfilter/nf_tables.h`.
static EXPRESSION: Known = Known(&[(1, "name", None), (2, "data", Some(&UNKNOWN))]);
static EXPRESSIONS: Known = Known(&[(1, "expression", Some(&EXPRESSION))]);
static HOOK: Known = Known(&[
    (1, "hook", None),
    (2, "priority", None),
    (3, "device", None),
]);
static COUNTERS: Known = Known(&[(1, "bytes", None), (2, "packets", None)]);

/// `enum nft_table_attributes`.
pub static TABLE: Known = Known(&[
    (1, "name", None),
    (2, "flags", None),
    (3, "chains", None),
    (4, "handle", None),
    (6, "user_data", None),
    (7, "owner", None),
]);
/// `enum nft_chain_attributes`.
pub static CHAIN: Known = Known(&[
    (1, "table", None),
    (2, "handle", None),
    (3, "name", None),
    (4, "hook", Some(&HOOK)),
    (5, "policy", None),
    (6, "references", None),
    (7, "type", None),
    (8, "counters", Some(&COUNTERS)),
    (10, "flags", None),
    (12, "user_data", None),
]);
/// `enum nft_rule_attributes`.
pub static RULE: Known = Known(&[
    (1, "table", None),
    (2, "chain", None),
    (3, "handle", None),
    (4, "expressions", Some(&EXPRESSIONS)),
    (6, "position", None),
    (7, "user_data", None),
]);
/// `enum nft_set_attributes`.
pub static SET: Known = Known(&[
    (1, "table", None),
    (2, "name", None),
    (3, "flags", None),
    (4, "key_type", None),
    (5, "key_length", None),
    (6, "data_type", None),
    (7, "data_length", None),
    (16, "handle", None),
]);

/// The attributes in `bytes`: an object, in which an attribute that is there more than once is an array.
pub fn tree(bytes: &[u8], known: &Known) -> Value {
    let mut left = MOST;
    object(bytes, known, DEPTH, &mut left)
}

fn object(bytes: &[u8], known: &Known, depth: usize, left: &mut usize) -> Value {
    let mut object = Map::new();
    for (number, value) in Attributes::new(bytes) {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let found = known.0.iter().find(|(known, ..)| *known == number);
        let name = found.map_or_else(|| number.to_string(), |(_, name, _)| (*name).to_owned());
        let told = match found {
            Some((_, _, Some(inside))) if depth > 0 => self::object(value, inside, depth - 1, left),
            Some(_) => plain(value),
            None if depth > 0 && nests(value) => self::object(value, &UNKNOWN, depth - 1, left),
            None => plain(value),
        };
        match object.get_mut(&name) {
            None => {
                object.insert(name, told);
            }
            Some(Value::Array(several)) => several.push(told),
            Some(one) => *one = Value::Array(vec![one.take(), told]),
        }
    }
    Value::Object(object)
}

/// Whether these bytes are attributes to their end, as a number or a text seldom is.
fn nests(bytes: &[u8]) -> bool {
    let mut length = 0;
    for (number, value) in Attributes::new(bytes) {
        if number == 0 || number > 64 {
            return false;
        }
        length += (value.len() + 4).next_multiple_of(4);
    }
    length > 4 && length == bytes.len().next_multiple_of(4)
}

fn plain(bytes: &[u8]) -> Value {
    let text = bytes.strip_suffix(b"\0").filter(|text| {
        !text.is_empty()
            && text
                .iter()
                .all(|byte| byte.is_ascii_graphic() || *byte == b' ')
    });
    match (text, bytes) {
        (Some(text), _) => Value::from(String::from_utf8_lossy(text)),
        (None, [a, b, c, d]) => Value::from(u32::from_be_bytes([*a, *b, *c, *d])),
        (None, [a, b, c, d, e, f, g, h]) => {
            Value::from(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
        }
        (None, bytes) => Value::from(hex::encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4)
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(number.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_rule_is_told_with_its_expressions() {
        let data = [
            attribute(1, &4_u32.to_be_bytes()),
            attribute(2, &9_u32.to_be_bytes()),
        ]
        .concat();
        let expression =
            |name: &[u8]| attribute(1, &[attribute(1, name), attribute(2, &data)].concat());
        let rule = [
            attribute(1, b"filter\0"),
            attribute(3, &7_u64.to_be_bytes()),
            attribute(4, &[expression(b"meta\0"), expression(b"cmp\0")].concat()),
            attribute(99, &[1, 2, 3]),
        ]
        .concat();
        let told = tree(&rule, &RULE);
        assert_eq!(
            (&told["table"], &told["handle"], &told["99"]),
            (&"filter".into(), &7.into(), &"010203".into())
        );
        assert_eq!(told["expressions"]["expression"][1]["name"], "cmp");
        assert_eq!(told["expressions"]["expression"][0]["data"]["2"], 9);
        for cut in 0..rule.len() {
            drop(tree(&rule[..cut], &RULE));
        }
    }

    #[test]
    fn what_nests_without_end_ends() {
        let mut bytes = attribute(1, b"x\0");
        for _ in 0..1000 {
            bytes = attribute(1, &bytes);
        }
        assert!(tree(&bytes, &UNKNOWN).to_string().len() < 100_000);
        let many = attribute(1, b"").repeat(20_000);
        assert_eq!(
            tree(&many, &UNKNOWN)["1"].as_array().map(Vec::len),
            Some(MOST)
        );
    }
}
