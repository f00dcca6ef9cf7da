//! What leaves a workspace, and what a person says to it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::state::{UnknownState, text_enum};

text_enum! {
    /// By which way a request left, or tried to.
    RequestWay {
        /// By the proxy, or caught on its way elsewhere.
        Proxy = "proxy",
        /// By the gateway to models.
        Model = "model",
        /// By the gateway to repositories.
        Git = "git",
    }

    /// What became of a request.
    RequestVerdict {
        /// A rule let it pass.
        Allowed = "allowed",
        /// It was refused.
        Denied = "denied",
        /// A person was asked and let it pass.
        AskedAllowed = "asked_allowed",
        /// A person was asked and refused it.
        AskedDenied = "asked_denied",
        /// A person was asked and did not answer in time, which is a no.
        AskedExpired = "asked_expired",
        /// The program went away before a person answered.
        AskedWithdrawn = "asked_withdrawn",
        /// It was let pass and failed.
        Failed = "failed",
        /// No rule is about it; it passed because the workspace learns.
        Learned = "learned",
    }

    /// Where a request stands that a person is asked about.
    AskState {
        /// It waits.
        Open = "open",
        /// Somebody said yes.
        Allowed = "allowed",
        /// Somebody said no.
        Denied = "denied",
        /// Nobody answered in time, which is a no.
        Expired = "expired",
        /// Whoever asked is gone.
        Withdrawn = "withdrawn",
    }

    /// What a person says to a request that waits.
    AskAnswer {
        /// Yes, to what waits now.
        Once = "once",
        /// Yes, for ten minutes.
        TenMinutes = "ten_minutes",
        /// Yes, in this workspace from now on.
        Workspace = "workspace",
        /// Yes, in every workspace of this repository from now on.
        Repository = "repository",
        /// No, to what waits now.
        No = "no",
        /// No, in this workspace from now on.
        Never = "never",
    }
}

impl RequestVerdict {
    /// Whether it was kept from leaving.
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::Denied | Self::AskedDenied | Self::AskedExpired | Self::AskedWithdrawn)
    }
}

impl AskAnswer {
    /// Whether it lets the request pass.
    pub const fn is_yes(self) -> bool {
        !matches!(self, Self::No | Self::Never)
    }

    /// Whether it holds for what is asked later, too: a rule comes of it.
    pub const fn lasts(self) -> bool {
        !matches!(self, Self::Once | Self::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_the_json() {
        fn check<T: Serialize>(values: &[T], text: impl Fn(&T) -> &'static str) {
            for value in values {
                assert_eq!(serde_json::to_value(value).unwrap(), text(value));
            }
        }
        check(RequestWay::ALL, |value| value.as_str());
        check(RequestVerdict::ALL, |value| value.as_str());
        check(AskState::ALL, |value| value.as_str());
        check(AskAnswer::ALL, |value| value.as_str());
    }
}
