use crate::domain::ItemId;

/// Set of items as a bit set: 10 million items take 1.25 MB.
#[derive(Debug, Default)]
pub(crate) struct ItemSet(Vec<u64>);

impl ItemSet {
    /// Adds the item. Returns whether it is new.
    pub(crate) fn insert(&mut self, item: ItemId) -> bool {
        let (word, bit) = Self::position(item);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    pub(crate) fn contains(&self, item: ItemId) -> bool {
        let (word, bit) = Self::position(item);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn position(item: ItemId) -> (usize, u64) {
        let n = usize::try_from(item.0).expect("SQLite numbers rows from 1");
        (n / 64, 1 << (n % 64))
    }
}
