//! Rust source with its strings and comments blanked, so that checks see only code.
//!
//! Lines and columns stay where they were. Knows just enough of Rust's lexer for that.

/// One source text, seen three ways; all have the same lines.
pub(crate) struct Masked {
    /// Code: strings, characters and comments are spaces.
    pub(crate) code: String,
    /// Comments: everything else is spaces.
    pub(crate) comments: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// Splits a source text.
pub(crate) fn mask(text: &str) -> Masked {
    let source: Vec<char> = text.chars().collect();
    let mut kinds = Vec::with_capacity(source.len());
    while kinds.len() < source.len() {
        let (kind, length) = token(&source, kinds.len());
        let length = length.min(source.len() - kinds.len());
        kinds.extend(std::iter::repeat_n(kind, length));
    }
    let only = |wanted: Kind| {
        let seen = source.iter().zip(&kinds);
        seen.map(|(&c, &kind)| if kind == wanted || c == '\n' { c } else { ' ' })
            .collect()
    };
    Masked {
        code: only(Kind::Code),
        comments: only(Kind::Comment),
    }
}

fn token(source: &[char], at: usize) -> (Kind, usize) {
    let rest = &source[at..];
    let after_word = at > 0 && is_word(source[at - 1]);
    match rest {
        ['/', '/', ..] => (Kind::Comment, position(rest, '\n')),
        ['/', '*', ..] => (Kind::Comment, block_comment(rest)),
        ['"', ..] => (Kind::Literal, quoted(rest, '"')),
        ['\'', '\\', ..] => (Kind::Literal, quoted(rest, '\'')),
        ['\'', _, '\'', ..] => (Kind::Literal, 3),
        ['r', '"' | '#', ..] if !after_word => raw_string(rest, 1),
        ['b' | 'c', 'r', '"' | '#', ..] if !after_word => raw_string(rest, 2),
        _ => (Kind::Code, 1),
    }
}

fn position(rest: &[char], wanted: char) -> usize {
    rest.iter().position(|&c| c == wanted).unwrap_or(rest.len())
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string(rest: &[char], prefix: usize) -> (Kind, usize) {
    let hashes = rest[prefix..].iter().take_while(|&&c| c == '#').count();
    if rest.get(prefix + hashes) != Some(&'"') {
        return (Kind::Code, 1); // A raw identifier: `r#type`.
    }
    let mut end = vec!['"'];
    end.extend(std::iter::repeat_n('#', hashes));
    let body = prefix + hashes + 1;
    let found = rest[body..]
        .windows(end.len())
        .position(|window| window == end);
    (
        Kind::Literal,
        found.map_or(rest.len(), |found| body + found + end.len()),
    )
}

/// Whether a character belongs to an identifier.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The first line (from 0) of the tests in a file, or the number of its lines.
pub(crate) fn tests_begin(code: &str) -> usize {
    let lines: Vec<_> = code.lines().collect();
    let inline = |line: &&str| line.starts_with("mod tests {");
    lines.iter().position(inline).unwrap_or(lines.len())
}

/// Whether a whole file is a test.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

#[test]
fn strings_and_comments_are_blank() {
    let cases = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ */ d", "a                 d"),
        (r#"f("x{\"") + 1"#, "f(      ) + 1"),
        (r##"r#"a"b"# + r#type"##, "         + r#type"),
        ("'{' 'a 'b", "    'a 'b"),
        (r"b'\'' x", "b     x"),
    ];
    for (source, want) in cases {
        assert_eq!(mask(source).code, want, "{source}");
    }
    assert_eq!(mask("a // b\nc").comments, "  // b\n ");
}
