//! Asks the kernel over rtnetlink(7), in the namespace of the calling thread.

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::model::State;
use super::parse;
use crate::capture::sockets::netlink::Channel;

/// `RTM_GET*`, `include/uapi/linux/rtnetlink.h`; each answer has the number two below.
const GET_LINK: u16 = 18;
const GET_ADDRESS: u16 = 22;
const GET_ROUTE: u16 = 26;
const GET_NEIGHBOUR: u16 = 30;
const GET_RULE: u16 = 34;

/// Most items of a kind that are held in memory: some routers have a million routes.
const MOST: usize = 1 << 18;
/// How often a question is asked again when things changed meanwhile.
const TRIES: u32 = 3;

/// All that rtnetlink tells of the namespace.
pub fn ask() -> State {
    let mut state = State::default();
    let mut channel = match Channel::open(SockProtocol::NetlinkRoute) {
        Ok(channel) => channel,
        Err(errno) => {
            state.failures.push(("rtnetlink", format!("{errno:?}")));
            return state;
        }
    };
    let (failures, channel) = (&mut state.failures, &mut channel);
    // Lengths of `struct ifinfomsg`, `ndmsg`, `ifaddrmsg`, `rtmsg`, `fib_rule_hdr`; all zero asks for everything.
    state.interfaces = all(
        channel,
        ("interfaces", GET_LINK, 16),
        parse::interface,
        failures,
    );
    state.neighbours = all(
        channel,
        ("neighbours", GET_NEIGHBOUR, 12),
        parse::neighbour,
        failures,
    );
    state.addresses = all(
        channel,
        ("addresses", GET_ADDRESS, 8),
        parse::address,
        failures,
    );
    state.routes = all(channel, ("routes", GET_ROUTE, 12), parse::route, failures);
    state.rules = all(channel, ("rules", GET_RULE, 12), parse::rule, failures);
    state
}

fn all<T>(
    channel: &mut Channel,
    (name, get, length): (&'static str, u16, usize),
    parse: impl Fn(&[u8]) -> Option<T>,
    failures: &mut Vec<(&'static str, String)>,
) -> Vec<T> {
    let mut items = Vec::new();
    for tries in 1..=TRIES {
        items.clear();
        let mut malformed = 0_u32;
        let result = channel.dump(get, &vec![0; length], |kind, body| {
            // Families that are not asked for by number may answer with messages of their own.
            match parse(body).filter(|_| kind == get - 2) {
                Some(item) => items.push(item),
                None => malformed += 1,
            }
            items.len() < MOST
        });
        match result {
            Ok(dump) if dump.interrupted && tries < TRIES => continue,
            Ok(dump) if dump.interrupted => failures.push((name, "interrupted".to_owned())),
            Ok(dump) if dump.damaged > 0 || malformed > 0 => {
                failures.push((name, "malformed".to_owned()))
            }
            Ok(_) if items.len() >= MOST => failures.push((name, "truncated".to_owned())),
            Ok(_) => {}
            // Without CONFIG_IP_MULTIPLE_TABLES there are no rules.
            Err(Errno::EOPNOTSUPP) if get == GET_RULE => {}
            Err(errno) => failures.push((name, format!("{errno:?}"))),
        }
        break;
    }
    items
}
