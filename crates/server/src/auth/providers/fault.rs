//! Why a provider did not tell who somebody is.

use boatyard_api::sign_in::Refusal;
use boatyard_egress::https::HttpsError;

/// Why a provider did not tell who somebody is.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    /// It can't be reached.
    #[error("{0}")]
    Unreachable(String),
    /// Its answer can't be believed.
    #[error("{0}")]
    Nonsense(String),
    /// It does not know the code that the browser brought.
    #[error("{0}")]
    Code(String),
}

impl Fault {
    /// As the person is told.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::Unreachable(_) => Refusal::Unreachable,
            Self::Nonsense(_) => Refusal::Nonsense,
            Self::Code(_) => Refusal::Code,
        }
    }

    /// An answer that can't be used, with all that lies behind that.
    pub(crate) fn nonsense(what: &str, error: &dyn std::error::Error) -> Self {
        Self::Nonsense(format!("{what}: {}", crate::chain(error)))
    }
}

impl From<Unasked> for Fault {
    fn from(error: Unasked) -> Self {
        Self::Unreachable(crate::chain(&error))
    }
}

/// Why a request to a provider has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unasked {
    /// There is no connection, or no whole answer.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// Nothing can be asked at all.
    #[error("{0}")]
    Setup(String),
}
