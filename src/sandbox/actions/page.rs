//! Paging of both queries. Pages start at 1; number and size are required.

use serde_json::{Value, json};

use super::{ActionResult, Body};
use crate::sandbox::{
    form::{Params, invalid},
    response::ApiError,
};

/// Largest page size. No document states it; 100 is what most lists of Alibaba Cloud allow, and a client that asks for more
/// should find out here that the service may refuse it.
const PAGE_MAX_ITEMS: i64 = 100;

#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    number: usize,
    size: usize,
}

impl Page {
    pub(super) fn parse(params: &Params<'_>) -> Result<Self, ApiError> {
        let (number, size) = (params.number("CurrentPage")?, params.number("PageSize")?);
        let number = usize::try_from(number).ok().filter(|&number| number > 0);
        let number = number.ok_or_else(|| invalid("CurrentPage", "must be 1 or more"))?;
        let size = usize::try_from(size).ok().filter(|_| (1..=PAGE_MAX_ITEMS).contains(&size));
        let size = size.ok_or_else(|| invalid("PageSize", "must be 1 to 100"))?;
        Ok(Self { number, size })
    }

    pub(super) fn offset(self) -> usize {
        (self.number - 1).saturating_mul(self.size)
    }

    pub(super) fn size(self) -> usize {
        self.size
    }

    /// Result with the items of this page and the totals.
    pub(super) fn result(self, items: Vec<Value>, total: usize) -> ActionResult {
        ActionResult::new(Body::Coded(vec![
            ("CurrentPage", json!(self.number)),
            ("PageSize", json!(self.size)),
            ("TotalCount", json!(total)),
            ("TotalPage", json!(total.div_ceil(self.size))),
            ("Items", Value::Array(items)),
        ]))
    }
}
