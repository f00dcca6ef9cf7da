//! One question, one answer.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode},
    rr::{
        DNSClass, RData, Record, RecordType,
        rdata::{A, AAAA},
    },
};

use super::Names;

/// The shortest message: its header.
const HEADER: usize = 12;
/// Set in the third byte of an answer.
const IS_ANSWER: u8 = 0x80;
/// How long a program may remember an address, in seconds. It holds for the life of its
/// workspace's processes; this is about names that are forgotten because others came.
const REMEMBER: u32 = 300;
/// What we take over UDP, in bytes (the value that resolvers have agreed on).
const PAYLOAD: u16 = 1232;

/// The answer to what came; none to what is no question, which is answered by silence.
///
/// | asked | answered |
/// |---|---|
/// | `A` | the name's own address, whatever the name, or none that can't be one |
/// | `A`, `AAAA` of `localhost` | loopback |
/// | `AAAA`, `HTTPS`, `SVCB` | there is none |
/// | anything else | refused: nothing is asked of the world outside |
pub(super) fn answer(question: &[u8], names: &Names) -> Option<Vec<u8>> {
    if question.len() < HEADER || question[2] & IS_ANSWER != 0 {
        return None;
    }
    let id = u16::from_be_bytes([question[0], question[1]]);
    let op_code = OpCode::from_u8(question[2] >> 3 & 0x0f);
    let Ok(asked) = Message::from_vec(question) else {
        return Message::error_msg(id, op_code, ResponseCode::FormErr).to_vec().ok();
    };
    let mut answer = Message::new(id, MessageType::Response, op_code);
    answer.metadata = Metadata::response_from_request(&asked.metadata);
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = decide(&asked, &mut answer, names);
    // A client that says so gets to know that we do too.
    if let Some(edns) = &asked.edns {
        let mut own = Edns::new();
        own.set_max_payload(PAYLOAD);
        if edns.version() > 0 {
            answer.answers.clear();
            answer.metadata.response_code = ResponseCode::BADVERS;
        }
        answer.set_edns(own);
    }
    answer.to_vec().ok()
}

fn decide(asked: &Message, answer: &mut Message, names: &Names) -> ResponseCode {
    if asked.metadata.op_code != OpCode::Query {
        return ResponseCode::NotImp;
    }
    let [query] = &*asked.queries else { return ResponseCode::FormErr };
    answer.add_query(query.clone());
    if query.query_class() != DNSClass::IN {
        return ResponseCode::Refused;
    }
    let mut name = query.name().to_lowercase().to_ascii();
    if name.ends_with('.') {
        name.pop();
    }
    let own = name == "localhost" || name.ends_with(".localhost");
    let data = match query.query_type() {
        RecordType::A if own => RData::A(A(Ipv4Addr::LOCALHOST)),
        RecordType::AAAA if own => RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)),
        RecordType::A if super::is_name(&name) => RData::A(A(names.address(&name))),
        RecordType::A => return ResponseCode::NXDomain,
        RecordType::AAAA | RecordType::HTTPS | RecordType::SVCB => return ResponseCode::NoError,
        _ => return ResponseCode::Refused,
    };
    answer.add_answer(Record::from_rdata(query.name().clone(), REMEMBER, data));
    ResponseCode::NoError
}

#[cfg(test)]
mod tests {
    use hickory_proto::{op::Query, rr::Name};
    use proptest::prelude::*;

    use super::*;

    fn ask(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn answered(message: &Message, names: &Names) -> Message {
        let bytes = answer(&message.to_vec().unwrap(), names).expect("an answer");
        Message::from_vec(&bytes).unwrap()
    }

    fn addresses(message: &Message) -> Vec<String> {
        message.answers.iter().map(|record| record.data.to_string()).collect()
    }

    #[test]
    fn every_name_has_an_address_of_its_own() {
        let names = Names::forgetful();
        let first = answered(&ask("Api.Example.COM.", RecordType::A), &names);
        assert_eq!(first.metadata.response_code, ResponseCode::NoError);
        assert!(first.metadata.recursion_available && first.metadata.recursion_desired);
        assert_eq!((first.metadata.id, addresses(&first)), (7, vec!["198.18.0.1".to_owned()]));
        // A resolver that mixes cases compares the question with its own.
        assert_eq!(first.queries[0].name().to_ascii(), "Api.Example.COM.");
        let again = answered(&ask("api.example.com.", RecordType::A), &names);
        assert_eq!(addresses(&again), ["198.18.0.1"]);
        let other = answered(&ask("db", RecordType::A), &names);
        assert_eq!(addresses(&other), ["198.18.0.2"]);
        assert_eq!(names.name(Ipv4Addr::new(198, 18, 0, 1)).as_deref(), Some("api.example.com"));
    }

    #[test]
    fn nothing_else_is_answered_and_nothing_else_gets_an_address() {
        let names = Names::forgetful();
        let code = |name: &str, kind| {
            let answer = answered(&ask(name, kind), &names);
            assert!(answer.answers.is_empty(), "{name} {kind}");
            answer.metadata.response_code
        };
        for kind in [RecordType::AAAA, RecordType::HTTPS, RecordType::SVCB] {
            assert_eq!(code("example.com.", kind), ResponseCode::NoError);
        }
        for kind in [
            RecordType::TXT,
            RecordType::NULL,
            RecordType::SRV,
            RecordType::MX,
            RecordType::PTR,
            RecordType::ANY,
            RecordType::NS,
            RecordType::SOA,
            RecordType::CNAME,
            RecordType::AXFR,
            RecordType::Unknown(4242),
        ] {
            assert_eq!(code("secret.example.com.", kind), ResponseCode::Refused, "{kind}");
        }
        for name in [".", "1.2.3.4.", "*.example.com.", "0x7f000001."] {
            assert_eq!(code(name, RecordType::A), ResponseCode::NXDomain, "{name}");
        }
        for label in [&b"a b"[..], b"\x00", b"%65vil", b"a.b"] {
            let mut odd = ask("example.com.", RecordType::A);
            odd.queries[0].set_name(Name::from_labels([label, b"example"]).unwrap());
            let code = answered(&odd, &names).metadata.response_code;
            assert_eq!(code, ResponseCode::NXDomain, "{label:?}");
        }
        let mut other = ask("example.com.", RecordType::A);
        other.queries[0].set_query_class(DNSClass::CH);
        assert_eq!(answered(&other, &names).metadata.response_code, ResponseCode::Refused);
        let mut other = ask("example.com.", RecordType::A);
        other.metadata.op_code = OpCode::Notify;
        assert_eq!(answered(&other, &names).metadata.response_code, ResponseCode::NotImp);
        let mut two = ask("example.com.", RecordType::A);
        two.add_query(Query::query(Name::from_ascii("b.example.").unwrap(), RecordType::A));
        assert_eq!(answered(&two, &names).metadata.response_code, ResponseCode::FormErr);
        assert_eq!(
            addresses(&answered(&ask("first.example.", RecordType::A), &names)),
            ["198.18.0.1"]
        );
    }

    #[test]
    fn loopback_has_its_names() {
        let names = Names::forgetful();
        for name in ["localhost.", "3000--ws.LocalHost."] {
            assert_eq!(addresses(&answered(&ask(name, RecordType::A), &names)), ["127.0.0.1"]);
            assert_eq!(addresses(&answered(&ask(name, RecordType::AAAA), &names)), ["::1"]);
        }
    }

    #[test]
    fn a_client_with_edns_is_told_so_and_one_of_a_later_version_that_we_are_not() {
        let names = Names::forgetful();
        let mut with = ask("example.com.", RecordType::A);
        with.set_edns(Edns::new());
        let answer = answered(&with, &names);
        assert_eq!((answer.edns.is_some(), answer.answers.len()), (true, 1));
        let mut later = Edns::new();
        later.set_version(1);
        with.set_edns(later);
        let answer = answered(&with, &names);
        // The number has two meanings, of which the decoder prefers the other.
        let code = u16::from(answer.metadata.response_code);
        assert_eq!((code, answer.answers.len()), (u16::from(ResponseCode::BADVERS), 0));
    }

    #[test]
    fn answers_and_fragments_get_silence_and_garbage_its_number_back() {
        let names = Names::forgetful();
        let mut bytes = ask("example.com.", RecordType::A).to_vec().unwrap();
        assert_eq!(answer(&bytes[..11], &names), None);
        // A name that points at itself.
        let mut looping = bytes[..12].to_vec();
        looping.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        let said = answer(&looping, &names).unwrap();
        assert_eq!((&said[..2], said[3] & 0x0f), (&[0, 7][..], 1));
        bytes[2] |= IS_ANSWER;
        assert_eq!(answer(&bytes, &names), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_the_answer_is_short(bytes in prop::collection::vec(any::<u8>(), 0..600), cut in 0usize..40, flip in any::<(u8, u8)>()) {
            let names = Names::forgetful();
            if let Some(said) = answer(&bytes, &names) {
                prop_assert!(said.len() <= 1024 && said[2] & IS_ANSWER != 0);
            }
            let mut near = ask("a-name.example.com.", RecordType::A).to_vec().unwrap();
            let at = usize::from(flip.0) % near.len();
            near[at] ^= flip.1;
            near.truncate(near.len().saturating_sub(cut));
            if let Some(said) = answer(&near, &names) {
                prop_assert!(said.len() <= 1024 && said[..2] == near[..2]);
            }
        }
    }
}
