//! What a runner may say of what waits for a person.

use boatyard_model::{
    EventBody, PermissionId, QuestionId,
    event::PermissionOutcome::{self, Allowed, Cancelled, Denied, Expired},
};

use super::Closed;

fn resolved(outcome: PermissionOutcome, option: Option<&str>, by: Option<&str>) -> Option<Closed> {
    Closed::of(&EventBody::PermissionResolved {
        permission: PermissionId::from_u128(7),
        outcome,
        option: option.map(str::to_owned),
        by: by.map(str::to_owned),
    })
}

fn answered(answer: Option<&str>, by: Option<&str>) -> Option<Closed> {
    Closed::of(&EventBody::QuestionAnswered {
        question: QuestionId::from_u128(8),
        answer: answer.map(str::to_owned),
        by: by.map(str::to_owned),
    })
}

#[test]
fn a_runner_closes_and_never_answers() {
    let permission = Some(Closed::Permission(PermissionId::from_u128(7)));
    assert_eq!(resolved(Cancelled, None, None), permission);
    assert_eq!(resolved(Expired, None, None), permission);
    assert_eq!(answered(None, None), Some(Closed::Question(QuestionId::from_u128(8))));
    let forged = [
        resolved(Allowed, Some("yes"), Some("Owner")),
        resolved(Allowed, None, None),
        resolved(Denied, Some("no"), None),
        resolved(Cancelled, Some("yes"), None),
        resolved(Cancelled, None, Some("Owner")),
        answered(Some("Tea"), None),
        answered(None, Some("Owner")),
    ];
    assert_eq!(forged, [None; 7]);
}
