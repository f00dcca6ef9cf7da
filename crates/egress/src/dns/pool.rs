//! Which name has which address: a table without input or output.

use std::{collections::HashMap, net::Ipv4Addr};

/// The addresses: 198.18.0.0/15, set apart for measurements within one machine (RFC 2544), so that
/// nothing in the world has one.
const FIRST: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// How many of them are handed out: all but the first and the last.
pub(super) const ADDRESSES: u32 = (1 << 17) - 2;

/// Names with addresses. The one that was not asked for the longest time goes when there are too
/// many; its address is given to another only after all the others were, so that a program which
/// still remembers it is not led elsewhere.
#[derive(Debug)]
pub(super) struct Pool {
    capacity: usize,
    slots: Vec<Slot>,
    by_name: HashMap<Box<str>, usize>,
    by_offset: HashMap<u32, usize>,
    /// The offset that was given last.
    last: u32,
    /// Counts the uses.
    clock: u64,
}

#[derive(Debug)]
struct Slot {
    name: Box<str>,
    /// From [`FIRST`].
    offset: u32,
    used: u64,
}

/// A name that got an address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// Where in the table; what was there before is gone.
    pub(super) slot: usize,
    /// From the first address on.
    pub(super) offset: u32,
}

impl Pool {
    /// An empty one for so many names at once.
    pub(super) fn new(capacity: usize) -> Self {
        assert!(capacity > 0 && capacity < ADDRESSES as usize / 2, "most addresses stay free");
        Self {
            capacity,
            slots: Vec::new(),
            by_name: HashMap::new(),
            by_offset: HashMap::new(),
            last: 0,
            clock: 0,
        }
    }

    /// The address of `name`, and how it got it if it had none.
    pub(super) fn address(&mut self, name: &str) -> (Ipv4Addr, Option<Given>) {
        self.clock += 1;
        if let Some(&slot) = self.by_name.get(name) {
            self.slots[slot].used = self.clock;
            return (at(self.slots[slot].offset), None);
        }
        let offset = self.next_offset();
        let slot = Slot { name: name.into(), offset, used: self.clock };
        let place = if self.slots.len() < self.capacity {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let oldest = (0..self.slots.len()).min_by_key(|&place| self.slots[place].used);
            let oldest = oldest.expect("the capacity is not zero");
            let gone = std::mem::replace(&mut self.slots[oldest], slot);
            self.by_name.remove(&gone.name);
            self.by_offset.remove(&gone.offset);
            oldest
        };
        self.by_name.insert(name.into(), place);
        self.by_offset.insert(offset, place);
        (at(offset), Some(Given { slot: place, offset }))
    }

    /// The name that has this address.
    pub(super) fn name(&mut self, address: Ipv4Addr) -> Option<Box<str>> {
        let offset = u32::from(address).checked_sub(FIRST)?;
        let slot = &mut self.slots[*self.by_offset.get(&offset)?];
        self.clock += 1;
        slot.used = self.clock;
        Some(slot.name.clone())
    }

    /// Takes up again what an earlier table gave; nothing happens if it contradicts what is here.
    pub(super) fn restore(&mut self, name: &str, offset: u32) {
        let fits = (1..=ADDRESSES).contains(&offset)
            && self.slots.len() < self.capacity
            && !self.by_name.contains_key(name)
            && !self.by_offset.contains_key(&offset);
        if fits {
            let place = self.slots.len();
            self.slots.push(Slot { name: name.into(), offset, used: 0 });
            self.by_name.insert(name.into(), place);
            self.by_offset.insert(offset, place);
        }
    }

    /// Goes on after the offset that was given last.
    pub(super) fn go_on_after(&mut self, last: u32) {
        self.last = last.min(ADDRESSES);
    }

    /// How many names there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    fn next_offset(&mut self) -> u32 {
        loop {
            self.last = if self.last >= ADDRESSES { 1 } else { self.last + 1 };
            if !self.by_offset.contains_key(&self.last) {
                return self.last;
            }
        }
    }
}

fn at(offset: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + offset)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_keeps_its_address_and_an_address_its_name() {
        let mut pool = Pool::new(8);
        let (address, given) = pool.address("one.example");
        assert_eq!(
            (address, given),
            (Ipv4Addr::new(198, 18, 0, 1), Some(Given { slot: 0, offset: 1 }))
        );
        assert_eq!(pool.address("one.example"), (address, None));
        assert_eq!(pool.name(address).as_deref(), Some("one.example"));
        assert_eq!(pool.name(Ipv4Addr::new(198, 18, 0, 2)), None);
        assert_eq!(pool.name(Ipv4Addr::new(1, 2, 3, 4)), None);
        assert_eq!(pool.name(Ipv4Addr::new(198, 20, 0, 1)), None);
    }

    #[test]
    fn an_address_comes_back_last_of_all() {
        let mut pool = Pool::new(2);
        let first = pool.address("first.example").0;
        pool.address("second.example");
        // The first was used since; the second goes.
        pool.name(first);
        let (third, given) = pool.address("third.example");
        assert_eq!(given, Some(Given { slot: 1, offset: 3 }));
        assert_eq!(pool.name(Ipv4Addr::new(198, 18, 0, 2)), None);
        assert_eq!(pool.name(first).as_deref(), Some("first.example"));
        assert_eq!(pool.name(third).as_deref(), Some("third.example"));
        // After the last address it begins again, past those that are taken.
        pool.go_on_after(u32::MAX);
        assert_eq!(pool.address("fourth.example").0, Ipv4Addr::new(198, 18, 0, 2));
        assert_eq!(Ipv4Addr::from(FIRST + ADDRESSES), Ipv4Addr::new(198, 19, 255, 254));
    }

    proptest! {
        #[test]
        fn it_stays_one_to_one_and_bounded(
            steps in prop::collection::vec((0u16..60, prop::bool::weighted(0.2)), 1..400),
            capacity in 1usize..20,
        ) {
            let mut pool = Pool::new(capacity);
            let mut latest = None;
            for (number, look) in steps {
                let name = format!("n{number}.example");
                if look && let Some((name, address)) = latest {
                    let known: Option<Box<str>> = pool.name(address);
                    prop_assert_eq!(known.as_deref(), Some::<&str>(name));
                } else {
                    let (address, _) = pool.address(&name);
                    let name: &'static str = Box::leak(name.into_boxed_str());
                    latest = Some((name, address));
                }
                prop_assert!(pool.len() <= capacity);
                prop_assert_eq!(pool.by_name.len(), pool.by_offset.len());
                for (place, slot) in pool.slots.iter().enumerate() {
                    prop_assert_eq!(pool.by_name.get(&slot.name), Some(&place));
                    prop_assert_eq!(pool.by_offset.get(&slot.offset), Some(&place));
                }
            }
        }
    }
}
