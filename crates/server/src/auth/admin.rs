//! Who sets the server up without a browser: `BOATYARD_ADMIN_EMAIL` and `BOATYARD_ADMIN_PASSWORD`.

use std::ffi::OsString;

use boatyard_api::Problem;
use boatyard_store::{Address, BUILT_IN_ORGANIZATION, Claim, NewPerson, audit};
use zeroize::Zeroizing;

use super::{Auth, password};
use crate::operations::people;

/// The variable with the address of the first account.
pub const EMAIL: &str = "BOATYARD_ADMIN_EMAIL";

/// The variable with its password.
pub const PASSWORD: &str = "BOATYARD_ADMIN_PASSWORD";

/// The first account, as the environment gives it.
#[derive(Clone)]
pub struct Admin {
    email: String,
    password: Zeroizing<String>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Admin {{ email: {:?}, .. }}", self.email)
    }
}

/// Why what the environment gives is no account. Nothing of the password is repeated.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// One of the two is missing.
    #[error("{set} is set and {missing} is not: set both, or neither")]
    Half {
        /// The one that is there.
        set: &'static str,
        /// The one that isn't.
        missing: &'static str,
    },
    /// It is no text.
    #[error("{0} is not UTF-8")]
    Text(&'static str),
    /// It is no address.
    #[error("{EMAIL}: {0}")]
    Email(String),
    /// Nobody should have it.
    #[error("{PASSWORD}: the password {0}")]
    Password(String),
}

impl Admin {
    /// What both variables say; none where neither is set. An empty one counts as not set.
    ///
    /// # Errors
    /// When only one is set, or one makes no sense: a server must not start with a password that
    /// everybody would try first.
    pub fn read(
        email: Option<OsString>,
        password: Option<OsString>,
    ) -> Result<Option<Self>, Error> {
        let text = |value: Option<OsString>, name| match value.filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => value.into_string().map(Some).map_err(|_| Error::Text(name)),
        };
        let (email, password) = (text(email, EMAIL)?, text(password, PASSWORD)?);
        let (email, password) = match (email, password.map(Zeroizing::new)) {
            (None, None) => return Ok(None),
            (Some(email), Some(password)) => (email, password),
            (Some(_), None) => return Err(Error::Half { set: EMAIL, missing: PASSWORD }),
            (None, Some(_)) => return Err(Error::Half { set: PASSWORD, missing: EMAIL }),
        };
        let email =
            people::address(&email).map_err(|problem| Error::Email(problem.detail.clone()))?;
        match password::objection(&password, &email, "") {
            None => Ok(Some(Self { email, password })),
            Some(objection) => Err(Error::Password(objection)),
        }
    }
}

impl Auth {
    /// Makes the server this account's, if it is nobody's yet. What somebody changed since is left
    /// as it is.
    ///
    /// # Errors
    /// When the address is somebody else's, or it can't be stored.
    pub async fn set_up(&self, admin: &Admin) -> Result<(), Problem> {
        if self.store.is_claimed().await.map_err(Problem::internal)? {
            return Ok(());
        }
        let password = self.passwords.hash(&admin.password).await?;
        let name = admin.email.split('@').next().unwrap_or_default().to_owned();
        let email = admin.email.clone();
        let new = NewPerson { email, address: Address::Verified, name, password: Some(password) };
        let work =
            self.store.write(move |tx| Box::pin(async move { tx.claim_built_in(&new).await }));
        let claim = audit::by_server("set_up", BUILT_IN_ORGANIZATION, work)
            .await
            .map_err(crate::operations::store_problem)?;
        match claim {
            Claim::Done => tracing::info!("the server was set up by the environment"),
            Claim::Late => {}
            Claim::AddressTaken => {
                return Err(Problem::already_exists(
                    "another account has the address in \
                    BOATYARD_ADMIN_EMAIL",
                ));
            }
        }
        self.claimed();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_set_or_neither_and_neither_is_a_default() {
        let read = |email: &str, password: &str| {
            let value = |text: &str| Some(OsString::from(text));
            Admin::read(value(email), value(password)).map(|admin| admin.map(|admin| admin.email))
        };
        assert_eq!(Admin::read(None, None).unwrap().map(|admin| admin.email), None);
        assert_eq!(read("", ""), Ok(None));
        assert_eq!(read("Ada@Example.com", "some quiet words"), Ok(Some("ada@example.com".into())));
        assert!(matches!(read("ada@example.com", ""), Err(Error::Half { set: EMAIL, .. })));
        assert!(matches!(read("", "some quiet words"), Err(Error::Half { set: PASSWORD, .. })));
        assert!(matches!(read("ada", "some quiet words"), Err(Error::Email(_))));
        for default in ["admin", "changeme", "password1234", "ada@example.com"] {
            let error = read("ada@example.com", default).unwrap_err();
            assert!(matches!(error, Error::Password(_)), "{default}");
            assert!(!error.to_string().contains(default), "{error}");
        }
    }
}
