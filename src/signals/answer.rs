//! Answers of Prometheus as readings at the cells of a window: several series merged, bad samples dropped. Pure.

use std::collections::BTreeMap;

use prometheus_http_query::response::Data;

/// One value for each cell, by the cell's end, Unix seconds.
#[derive(Debug, Default)]
pub(super) struct Column {
    values: BTreeMap<i64, f64>,
    /// The most series that one answer had.
    pub(super) series: usize,
}

impl Column {
    /// Takes in a page. Order and repetition do not matter: of several values at one moment the largest counts, since
    /// members that lag or just restarted show less than what happened. Values that are no finite number are gaps.
    pub(super) fn add(&mut self, data: Data) {
        let Data::Matrix(vectors) = data else {
            return;
        };
        self.series = self.series.max(vectors.len());
        for sample in vectors.iter().flat_map(|vector| vector.samples()) {
            let (at, value) = (sample.timestamp().round(), sample.value());
            if !value.is_finite() || value < 0.0 || at.abs() > 1e15 {
                continue;
            }
            #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
            let best = self.values.entry(at as i64).or_insert(value);
            *best = best.max(value);
        }
    }

    /// The value of the cell that ends at `end`.
    pub(super) fn at(&self, end: i64) -> Option<f64> {
        self.values.get(&end).copied()
    }

    /// How many cells are known.
    pub(super) fn known(&self) -> usize {
        self.values.len()
    }
}

/// The largest value of an instant answer.
pub(super) fn largest(data: &Data) -> Option<f64> {
    let values: Vec<f64> = match data {
        Data::Vector(vectors) => vectors
            .iter()
            .map(|vector| vector.sample().value())
            .collect(),
        Data::Scalar(sample) => vec![sample.value()],
        Data::Matrix(_) => Vec::new(),
    };
    values
        .into_iter()
        .filter(|value| value.is_finite())
        .max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn matrix(json: &str) -> Data {
        serde_json::from_str(&format!(
            "{{\"resultType\":\"matrix\",\"result\":[{json}]}}"
        ))
        .unwrap()
    }

    #[test]
    fn members_are_merged_and_bad_samples_are_gaps() {
        let mut column = Column::default();
        column.add(matrix(
            r#"{"metric":{"job":"a"},"values":[[900,"3"],[600,"2"],[600,"1"],[1200,"NaN"],[1500,"+Inf"],[1800,"-1"]]},
               {"metric":{"job":"b"},"values":[[600,"2.5"]]}"#,
        ));
        column.add(matrix(r#"{"metric":{},"values":[[900,"3"]]}"#));
        assert_eq!(
            [600, 900, 1200, 1500, 1800].map(|end| column.at(end)),
            [Some(2.5), Some(3.0), None, None, None]
        );
        assert_eq!((column.series, column.known()), (2, 2));
    }

    #[test]
    fn an_answer_of_another_kind_holds_nothing() {
        let mut column = Column::default();
        column.add(serde_json::from_str(r#"{"resultType":"scalar","result":[1,"2"]}"#).unwrap());
        assert_eq!(column.known(), 0);
    }
}
