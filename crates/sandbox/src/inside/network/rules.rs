//! The rules of the sandbox's own packet filter: a new connection to anywhere but this sandbox is
//! taken by the capturing listener, and so is one to where `resolv.conf` says that names are asked.
//!
//! ```text
//! chain prerouting (filter, -150):
//!   meta l4proto tcp, ip daddr not 127.0.0.0/8, ip daddr not OWN_ADDRESS,
//!   tcp flags & (syn | ack) == syn ─► tproxy to 127.0.0.1:CAPTURE_PORT
//!   meta l4proto tcp, ip daddr 127.0.0.1, tcp dport 53,
//!   tcp flags & (syn | ack) == syn ─► tproxy to 127.0.0.1:CAPTURE_PORT
//! ```
//!
//! `tproxy` gives the packet to a listener as it is: nothing is translated, so the kernel keeps no
//! record of connections, and the accepted socket's own address is where the program wanted to go.
//! What follows the first packet finds its socket by itself.

use super::{
    DNS_PORT, LOCALHOST, OWN_ADDRESS,
    netlink::{Attributes, Messages},
};
use crate::CAPTURE_PORT;

/// The kernel's numbers (`linux/netfilter/nf_tables.h`, `linux/netfilter.h`).
const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const IPV4: u8 = 2;
const PREROUTING: u32 = 0;
/// That of the table `mangle`, as is the custom for this.
const PRIORITY: i32 = -150;
const META_L4PROTO: u32 = 16;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// Registers: each has 16 bytes.
const FIRST: u32 = 1;
const SECOND: u32 = 2;
/// Where an IPv4 header has the destination, and a TCP header its port and its flags.
const DESTINATION: u32 = 16;
const PORT: u32 = 2;
const FLAGS: u32 = 13;
const SYN: u8 = 0x02;
const SYN_AND_ACK: u8 = 0x12;

/// Which connections a rule takes.
#[derive(Clone, Copy)]
enum Taken {
    /// Those to anywhere else.
    Elsewhere,
    /// Those that ask for names: few programs do so by TCP, but some do.
    Names,
}

/// Makes the table, its chain and its rules, all or nothing.
pub(super) fn install() -> std::io::Result<()> {
    let table = c"boatyard";
    let chain = c"capture";
    let general = [IPV4, 0, 0, 0];
    let [high, low] = SUBSYSTEM.to_be_bytes();
    let batch = [libc::AF_UNSPEC as u8, 0, high, low];
    let mut messages = Messages::new();
    messages.add(BATCH_BEGIN, 0, &batch, |_| {});
    messages.add(NEW_TABLE, libc::NLM_F_CREATE, &general, |of| {
        of.text(1, table);
    });
    messages.add(NEW_CHAIN, libc::NLM_F_CREATE, &general, |of| {
        of.text(1, table).text(3, chain).text(7, c"filter").nest(4, |hook| {
            hook.number(1, PREROUTING).number(2, PRIORITY.cast_unsigned());
        });
    });
    let append = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
    for (taken, flags) in [(Taken::Elsewhere, append), (Taken::Names, append | libc::NLM_F_ACK)] {
        messages.add(NEW_RULE, flags, &general, |of| {
            of.text(1, table).text(2, chain).nest(4, |list| rule(list, taken));
        });
    }
    messages.add(BATCH_END, 0, &batch, |_| {});
    messages.send(libc::NETLINK_NETFILTER)
}

fn rule(list: &mut Attributes<'_>, taken: Taken) {
    expression(list, c"meta", |of| {
        of.number(1, FIRST).number(2, META_L4PROTO);
    });
    compare(list, EQUAL, &[libc::IPPROTO_TCP as u8]);
    match taken {
        Taken::Elsewhere => {
            load(list, NETWORK_HEADER, DESTINATION, 1);
            compare(list, NOT_EQUAL, &[127]);
            load(list, NETWORK_HEADER, DESTINATION, 4);
            compare(list, NOT_EQUAL, &OWN_ADDRESS);
        }
        Taken::Names => {
            load(list, NETWORK_HEADER, DESTINATION, 4);
            compare(list, EQUAL, &LOCALHOST);
            load(list, TRANSPORT_HEADER, PORT, 2);
            compare(list, EQUAL, &DNS_PORT.to_be_bytes());
        }
    }
    load(list, TRANSPORT_HEADER, FLAGS, 1);
    expression(list, c"bitwise", |of| {
        of.number(1, FIRST).number(2, FIRST).number(3, 1);
        value(of, 4, &[SYN_AND_ACK]);
        value(of, 5, &[0]);
    });
    compare(list, EQUAL, &[SYN]);
    for (register, data) in [(FIRST, &LOCALHOST[..]), (SECOND, &CAPTURE_PORT.to_be_bytes())] {
        expression(list, c"immediate", |of| {
            of.number(1, register);
            value(of, 2, data);
        });
    }
    expression(list, c"tproxy", |of| {
        of.number(1, IPV4.into()).number(2, FIRST).number(3, SECOND);
    });
}

fn expression(
    list: &mut Attributes<'_>,
    name: &std::ffi::CStr,
    data: impl FnOnce(&mut Attributes<'_>),
) {
    list.nest(1, |element| {
        element.text(1, name).nest(2, data);
    });
}

fn load(list: &mut Attributes<'_>, header: u32, offset: u32, length: u32) {
    expression(list, c"payload", |of| {
        of.number(1, FIRST).number(2, header).number(3, offset).number(4, length);
    });
}

fn compare(list: &mut Attributes<'_>, how: u32, with: &[u8]) {
    expression(list, c"cmp", |of| {
        of.number(1, FIRST).number(2, how);
        value(of, 3, with);
    });
}

fn value(of: &mut Attributes<'_>, kind: u16, bytes: &[u8]) {
    of.nest(kind, |data| {
        data.bytes(1, bytes);
    });
}
