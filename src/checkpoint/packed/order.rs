//! Groups of columns that are no neighbours: quantizers that take columns in the order of their activations
//! (`desc_act`, "act-order") group them in that order, and say in `g_idx` to which group each column belongs.

use super::{Dtype, Part, Tensors, WORDS};
use std::sync::Arc;

/// The groups of a matrix's columns.
#[derive(Debug)]
pub struct Order {
    /// The group of each column.
    groups: Vec<usize>,
    /// The columns group by group, or why products cannot be made in that order.
    columns: Result<Arc<[u32]>, &'static str>,
}

impl Order {
    /// What `g_idx` says, if there is one and it says that groups are not of neighbours.
    pub fn find(
        tensors: &Tensors<'_>,
        (stem, suffix): (&str, &str),
        cols: usize,
        group: usize,
    ) -> Result<Option<Order>, String> {
        let Some(info) = tensors.get(stem, suffix) else { return Ok(None) };
        tensors.expect(stem, suffix, WORDS, &[cols])?;
        let part = Part { dtype: Dtype::I32, bytes: (tensors.bytes)(&info.name) };
        let groups: Vec<usize> = (0..cols).map(|col| part.word(col) as usize).collect();
        let count = cols.div_ceil(group);
        if let Some(col) = groups.iter().position(|&g| g >= count) {
            let found = groups[col] as u32 as i32;
            return Err(format!("{stem}{suffix} is {found} at [{col}], expected less than {count}"));
        }
        if groups.iter().enumerate().all(|(col, &g)| g == col / group) {
            return Ok(None);
        }
        let mut columns: Vec<u32> = (0..cols as u32).collect();
        columns.sort_by_key(|&col| groups[col as usize]);
        let even = columns.iter().enumerate().all(|(place, &col)| groups[col as usize] == place / group);
        let columns = match even {
            // A row goes through several, each of which would want its inputs in an order of its own.
            _ if stem.contains(".experts.") => {
                Err("their groups are no neighbours, which experts' have to be")
            }
            true => Ok(columns.into()),
            false => Err("their groups are no neighbours, and differ in size"),
        };
        Ok(Some(Order { groups, columns }))
    }

    /// The group of a column.
    pub fn group(&self, col: usize) -> usize {
        self.groups[col]
    }

    /// The columns group by group: the column that stands in each place of a row of codes.
    ///
    /// # Errors
    /// Why products cannot be made in that order.
    pub fn columns(&self) -> Result<&Arc<[u32]>, &'static str> {
        self.columns.as_ref().map_err(|&obstacle| obstacle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Change, Encoding, TensorInfo};
    use std::collections::BTreeMap;

    fn found(stem: &str, groups: &[u32]) -> Result<Option<Order>, String> {
        let bytes: Vec<u8> = groups.iter().flat_map(|g| g.to_le_bytes()).collect();
        let bytes: &[u8] = bytes.leak();
        let name = format!("{stem}.g_idx");
        let info = TensorInfo {
            name: name.clone(),
            encoding: Encoding::Plain(Dtype::I32),
            shape: vec![groups.len()],
            elements: groups.len(),
            bytes: 0..bytes.len(),
            change: Change::None,
        };
        let infos = BTreeMap::from([(name.as_str(), &info)]);
        let tensors = Tensors { infos, bytes: &|_| bytes };
        Order::find(&tensors, (stem, ".g_idx"), groups.len(), 3)
    }

    #[test]
    fn columns_are_found_group_by_group() {
        assert!(found("m", &[0, 0, 0, 1, 1, 1, 2, 2]).unwrap().is_none());
        let order = found("m", &[1, 0, 2, 0, 1, 1, 2, 0]).unwrap().unwrap();
        assert_eq!(order.columns().unwrap()[..], [1, 3, 7, 0, 4, 5, 2, 6]);
        assert_eq!(order.group(4), 1);
    }

    #[test]
    fn what_cannot_be_ordered_is_told() {
        let uneven = found("m", &[0, 0, 0, 0, 1, 1, 2, 2]).unwrap().unwrap();
        assert!(uneven.columns().unwrap_err().contains("differ in size"));
        let expert = found("layers.0.experts.1.up", &[1, 0, 0, 0, 1, 1]).unwrap().unwrap();
        assert!(expert.columns().unwrap_err().contains("experts"));
        assert!(found("m", &[0, 0, u32::MAX]).unwrap_err().contains("is -1 at [2], expected less than 1"));
    }
}
