//! Paging, alike for both queries: pages count from 1, both numbers are required.

use serde_json::{Value, json};

use crate::sandbox::{
    answer::Refusal,
    form::{Params, invalid},
};

/// Most items of a page. No document gives one; 100 is what most of Alibaba Cloud's lists allow, and a client that asks for
/// more should learn here that it may be refused there.
const PAGE_MAX_ITEMS: i64 = 100;

#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    number: usize,
    size: usize,
}

impl Page {
    pub(super) fn read(params: &Params<'_>) -> Result<Self, Refusal> {
        let (number, size) = (params.number("CurrentPage")?, params.number("PageSize")?);
        let number = usize::try_from(number).ok().filter(|&number| number > 0);
        let number = number.ok_or_else(|| invalid("CurrentPage", "pages count from 1"))?;
        let size = usize::try_from(size).ok().filter(|_| (1..=PAGE_MAX_ITEMS).contains(&size));
        let size = size.ok_or_else(|| invalid("PageSize", "it must be 1 to 100"))?;
        Ok(Self { number, size })
    }

    pub(super) fn offset(self) -> usize {
        (self.number - 1).saturating_mul(self.size)
    }

    pub(super) fn size(self) -> usize {
        self.size
    }

    /// The fields of the answer.
    pub(super) fn fields(self, items: Vec<Value>, total: usize) -> Vec<(&'static str, Value)> {
        vec![
            ("CurrentPage", json!(self.number)),
            ("PageSize", json!(self.size)),
            ("TotalCount", json!(total)),
            ("TotalPage", json!(total.div_ceil(self.size))),
            ("Items", Value::Array(items)),
        ]
    }
}
