//! What differs between two transcripts.
//!
//! Owns the longest common run of lines. Steps are the same in both, so each difference is shown
//! under the step that it belongs to.

/// One line that only one of them has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    /// The step that it belongs to.
    pub(super) step: String,
    /// `-` and RabbitMQ's line, or `+` and Leveret's.
    pub(super) line: String,
}

/// Compares RabbitMQ's transcript and Leveret's.
pub(super) fn differences(rabbitmq: &[String], leveret: &[String]) -> Vec<Difference> {
    let (rows, columns) = (rabbitmq.len(), leveret.len());
    // Lengths of the longest common runs of the lines from (row, column) on.
    let mut common = vec![vec![0_usize; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            common[row][column] = if rabbitmq[row] == leveret[column] {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut step = String::new();
    let mut found = Vec::new();
    let mut add = |step: &str, sign: char, line: &str| {
        found.push(Difference {
            step: step.to_owned(),
            line: format!("{sign} {}", line.trim_start().trim_start_matches("< ")),
        });
    };
    while row < rows || column < columns {
        if row < rows && column < columns && rabbitmq[row] == leveret[column] {
            if rabbitmq[row].starts_with("> ") {
                step.clone_from(&rabbitmq[row]);
            }
            row += 1;
            column += 1;
        } else if column == columns
            || (row < rows && common[row + 1][column] >= common[row][column + 1])
        {
            add(&step, '-', &rabbitmq[row]);
            row += 1;
        } else {
            add(&step, '+', &leveret[column]);
            column += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_its_step() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let rabbitmq = lines("> one\n  < a\n> two\n  < b\n  < c");
        let leveret = lines("> one\n  < a\n> two\n  < x\n  < c");
        let found = differences(&rabbitmq, &leveret);
        let found: Vec<_> = found.iter().map(|one| (&*one.step, &*one.line)).collect();
        assert_eq!(found, [("> two", "- b"), ("> two", "+ x")]);
    }
}
