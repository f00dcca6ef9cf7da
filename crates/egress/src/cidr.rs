//! Ranges of addresses, as `10.0.0.0/8` or `fd00::/8` or one address.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// A range of addresses. Bits beyond the prefix are kept as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    first: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Whether the address lies in the range. The two families never match each other.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                mask(address, self.prefix) == self.first
            }
            _ => false,
        }
    }

    /// How many bits all of its addresses share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Its first address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// Whether every address of the other lies in it.
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.first)
    }

    /// Whether it is just one address.
    pub fn is_single(&self) -> bool {
        self.prefix == width(self.first)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & keep).into())
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & keep).into())
        }
    }
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        Self { first: address, prefix: width(address) }
    }
}

impl FromStr for Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Cidr { text: text.chars().take(80).collect() };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix = match prefix {
            None => width(address),
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| bad())?
            }
            Some(_) => return Err(bad()),
        };
        if prefix > width(address) || mask(address, prefix) != address {
            return Err(bad());
        }
        Ok(Self { first: address, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() {
            self.first.fmt(f)
        } else {
            write!(f, "{}/{}", self.first, self.prefix)
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cidr: &str, address: &str, expected: bool) {
        let cidr: Cidr = cidr.parse().unwrap();
        assert_eq!(cidr.contains(address.parse().unwrap()), expected, "{cidr} {address}");
        assert_eq!(cidr.to_string().parse::<Cidr>().unwrap(), cidr);
    }

    #[test]
    fn ranges_contain_what_they_say() {
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "::1", false);
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7", "192.0.2.8", false);
        check("fd00:ec2::/32", "fd00:ec2::254", true);
        check("::/0", "2001:db8::1", true);
        check("::1/128", "::1", true);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0.1/8", "::/129", "10/8", "10.0.0.0/+8", "x"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
