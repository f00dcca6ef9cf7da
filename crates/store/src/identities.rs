//! Who people are elsewhere: accounts of providers.
