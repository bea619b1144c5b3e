//! The report as its readers get it: as a page, and as Markdown.

use std::collections::BTreeMap;

use base64::Engine as _;
use jiff::civil::Date;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::content::tests::{days, summary};
use super::text::percent;
use super::*;
use crate::robustness::walk_forward::Outcome;

/// Names as an attacker chooses them.
const HOSTILE: [&str; 12] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onload='alert(1)",
    "</style><style>*{display:none}</style>",
    "</title><base href=//evil.example>",
    "&lt;b&gt; &#60;",
    "]]></desc></svg><svg onload=alert(1)>",
    "fill=\"#FEED00\"",
    "a\u{202e}b\u{0}\u{1b}[31m\r\nc",
    "<svg width=\"1280\" height=\"640\" ",
    "| x | [a](javascript:alert(1)) `c` https://evil.example",
    "{{7*7}} ${7*7} %00 \u{e0041}",
];

/// Equity of `count` days that rises and falls.
fn equity(count: u32) -> Vec<(Date, f64)> {
    let value = |day: u32| {
        let day = f64::from(day);
        100_000.0 * (1.0 + 0.000_4 * day + 0.08 * libm::sin(day / 40.0))
    };
    days(&(0..count).map(value).collect::<Vec<_>>())
}

/// A report with everything in it, whose texts of others are these.
fn content(days: &[(Date, f64)], name: &dyn Fn(usize) -> String) -> Content {
    let mut content = Content {
        project: name(0),
        backtest_id: name(1),
        name: name(2),
        parameters: vec![(name(3), name(4))],
        statistics: vec![(name(5), name(6)), ("Net Profit".into(), "12.3%".into())],
        notes: vec![name(7)],
        ..Content::default()
    };
    let benchmark: Vec<(Date, f64)> = days
        .iter()
        .map(|(day, it)| (*day, 3.0 * it + 1.0))
        .collect();
    add_equity(&mut content, days, &benchmark);
    let (across, down) = (name(8), name(9));
    let values = [name(10), name(11), "20".to_owned()];
    let mut all = Vec::new();
    for (number, column) in (0u32..).zip(&values) {
        for row in ["1", "2"] {
            let ratio = f64::from(number) - 1.0;
            all.push(summary(&[(&across, column), (&down, row)], ratio));
        }
    }
    let all: Vec<&BacktestSummary> = all.iter().collect();
    let map = content::heat_map(
        &all,
        Some(&across),
        Some(&down),
        Statistic::SharpeRatio,
        &mut content.notes,
    );
    content.heat_map = Some(map.unwrap());
    let outcome = |year: i16| Outcome {
        in_sample_first: format!("{year}-01-01"),
        out_of_sample_first: format!("{}-01-01", year + 1),
        out_of_sample_last: format!("{}-06-30", year + 1),
        strategy: 0,
        in_sample_return: 0.2,
        out_of_sample_return: -0.05,
        efficiency: Some(-0.25),
    };
    content.walk_forward = Some((2015..2020).map(outcome).collect());
    content
}

fn plain(position: usize) -> String {
    format!("name {position}")
}

/// Names and attributes of the elements of a page, in order, and whether each is closed again.
fn elements(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>').unwrap();
        // Values of attributes are between quotation marks; what they hold is no structure.
        let structure = tag.split('"').step_by(2).collect::<Vec<_>>().join("\"");
        found.push(structure);
        rest = after;
    }
    found
}

/// The cells of the table with this id, by row.
fn table(page: &str, id: &str) -> Vec<Vec<String>> {
    let (_, after) = page.split_once(&format!("<table id=\"{id}\">")).unwrap();
    let (table, _) = after.split_once("</table>").unwrap();
    let (_, body) = table.split_once("<tbody>").unwrap();
    let rows = body.split("<tr>").skip(1);
    let cells = |row: &str| {
        let cells = row.split("</t").filter_map(|it| it.rsplit_once('>'));
        cells.map(|(_, text)| text.to_owned()).collect::<Vec<_>>()
    };
    rows.map(|row| cells(row).into_iter().filter(|it| !it.is_empty()).collect())
        .collect()
}

/// The places of the lines with this class in the drawing with this id.
fn points(page: &str, id: &str, class: &str) -> Vec<(f64, f64)> {
    let (_, after) = page
        .split_once(&format!("<title id=\"{id}-title\">"))
        .unwrap();
    let (drawing, _) = after.split_once("</svg>").unwrap();
    let line = drawing
        .lines()
        .find(|it| it.contains("<polyline") && it.contains(&format!("class=\"{class}\"")));
    let (_, points) = line.unwrap().split_once("points=\"").unwrap();
    let (points, _) = points.split_once('"').unwrap();
    let pair = |point: &str| {
        let (x, y) = point.split_once(',').unwrap();
        (x.parse().unwrap(), y.parse().unwrap())
    };
    points.split_whitespace().map(pair).collect()
}

/// Whether places are those of values, up to a unit of the drawing: `y` falls as the value rises.
#[track_caller]
fn assert_drawn(points: &[(f64, f64)], values: &[f64]) {
    assert_eq!(points.len(), values.len());
    let ends = |of: &dyn Fn(usize) -> f64| {
        let order = |a: &usize, b: &usize| of(*a).total_cmp(&of(*b));
        let all = || 0..values.len();
        (all().min_by(order).unwrap(), all().max_by(order).unwrap())
    };
    let (low, high) = ends(&|position| values[position]);
    let scale = (points[low].1 - points[high].1) / (values[high] - values[low]);
    for (point, value) in points.iter().zip(values) {
        let expected = points[low].1 - scale * (value - values[low]);
        assert!(
            (point.1 - expected).abs() <= 1.5,
            "{value}: {} and {expected}",
            point.1
        );
    }
    assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0));
}

#[test]
fn the_policy_allows_the_style_that_is_there_and_nothing_else() {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(html::STYLESHEET));
    assert_eq!(html::STYLESHEET_HASH, hash);
    let page = html::page(&content(&equity(300), &plain)).unwrap();
    let policy = format!(
        "content=\"default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'\""
    );
    assert!(page.contains(&policy), "{page}");
    for way_out in [
        "<script", " href", " src", "url(", "@import", "://", " on", " style=",
    ] {
        let page = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        let tags = elements(&page).join("\n");
        assert!(!tags.contains(way_out), "{way_out}");
        assert!(
            !html::STYLESHEET.contains(way_out) || way_out == " on",
            "{way_out}"
        );
    }
}

#[test]
fn the_tables_and_the_lines_are_those_of_the_backtest() {
    let days = equity(300);
    let content = content(&days, &plain);
    let page = html::page(&content).unwrap();
    let rows = table(&page, "equity-data");
    assert_eq!(rows.len(), days.len());
    let mut highest = f64::MIN;
    for (row, (day, value)) in rows.iter().zip(&days) {
        highest = highest.max(*value);
        assert_eq!(row[0], day.to_string());
        assert_eq!(row[1], format!("{value:.2}"));
        assert_eq!(row[2], percent(value / highest - 1.0));
    }
    let shown = |days: &[(Date, f64)]| days.iter().map(|it| it.1).collect::<Vec<_>>();
    assert_drawn(&points(&page, "equity", "line"), &shown(&days));
    assert_drawn(
        &points(&page, "equity", "dashed"),
        &shown(&content.benchmark),
    );
    assert_drawn(&points(&page, "drawdown", "line"), &shown(&content.depth));
    // The benchmark begins where the equity does.
    assert_eq!(content.benchmark[0].1, days[0].1);

    let falls = drawdowns::all(days.iter().copied());
    assert_eq!(table(&page, "drawdown-data").len(), falls.len());
    let months = table(&page, "month-data");
    let returns: Vec<String> = content.months.iter().map(|it| percent(it.value)).collect();
    let shown: Vec<String> = months
        .iter()
        .flat_map(|row| row[1..row.len() - 1].to_vec())
        .collect();
    assert_eq!(shown, returns);
    let map = table(&page, "map-data");
    assert_eq!(map[0][1..], ["1.00", "-1.00", "0.00"]);
    for value in &map[0][1..] {
        assert!(page.contains(&format!(">\n{value}\n</text>")), "{value}");
    }
    assert_eq!(table(&page, "window-data")[0][3..], ["20.00 %", "-5.00 %"]);
    assert_eq!(page.matches("20.00 % → -5.00 %").count(), 5);
}

#[test]
fn every_drawing_says_what_it_shows_and_needs_no_color() {
    let page = html::page(&content(&equity(300), &plain)).unwrap();
    assert_eq!(page.matches("<svg ").count(), 5);
    for id in ["equity", "drawdown", "months", "map", "windows"] {
        assert!(
            page.contains(&format!(
                "role=\"img\" aria-labelledby=\"{id}-title {id}-desc\""
            )),
            "{id}"
        );
        assert!(page.contains(&format!("<title id=\"{id}-title\">")), "{id}");
        assert!(page.contains(&format!("<desc id=\"{id}-desc\">")), "{id}");
    }
    // Colors are those of the style, which has another one for dark screens.
    let tags = elements(&page);
    let drawings = page
        .split("<svg ")
        .skip(1)
        .map(|it| it.split_once("</svg>").unwrap().0);
    for drawing in drawings {
        assert!(!drawing.contains("=\"#"), "{drawing}");
    }
    assert!(tags.iter().any(|it| it.starts_with("html lang")));
    assert!(html::STYLESHEET.contains("prefers-color-scheme: dark"));
    assert!(html::STYLESHEET.contains("stroke-dasharray"));
}

#[test]
fn a_long_equity_is_thinned_and_a_short_one_is_drawn() {
    let long = equity(4_000);
    let content = content(&long, &plain);
    assert!(content.equity.len() <= content::MAX_DAYS);
    assert!(
        content.notes.iter().any(|it| it.contains("of 4000 days")),
        "{:?}",
        content.notes
    );
    let page = html::page(&content).unwrap();
    assert!(page.len() < 200_000, "{}", page.len());
    for count in [0, 1, 2] {
        let mut content = Content::default();
        add_equity(&mut content, &equity(count), &[]);
        let page = html::page(&content).unwrap();
        assert_eq!(page.contains("has no equity"), count == 0);
        assert!(!markdown::text(&content).is_empty());
    }
    let mut flat = Content::default();
    add_equity(&mut flat, &days(&[5.0; 30]), &[]);
    assert!(html::page(&flat).unwrap().contains("never fell"));
}

#[test]
fn a_benchmark_with_a_gap_is_not_shown_and_that_is_said() {
    let days = equity(60);
    let mut content = Content::default();
    add_equity(&mut content, &days, &days[1..]);
    assert!(content.benchmark.is_empty());
    assert!(
        content.notes[0].contains("benchmark"),
        "{:?}",
        content.notes
    );
    let page = html::page(&content).unwrap();
    assert!(!page.contains("class=\"dashed\"") && !page.contains("Dashed line"));
}

#[test]
fn hostile_names_are_shown_as_text() {
    let expected = elements(&html::page(&content(&equity(60), &plain)).unwrap());
    for (turn, _) in HOSTILE.iter().enumerate() {
        let name = |position: usize| HOSTILE[(position + turn) % HOSTILE.len()].to_owned();
        let page = html::page(&content(&equity(60), &name)).unwrap();
        assert_eq!(elements(&page), expected);
        assert!(!page.chars().any(|it| it.is_control() && it != '\n'));
        assert!(!page.contains('\u{202e}') && !page.contains('\u{e0041}'));
        let text = markdown::text(&content(&equity(60), &name));
        assert!(!text.contains("](") && !text.contains("://") && !text.contains('\u{202e}'));
        let begins = text.match_indices('<');
        for (at, _) in begins {
            assert!(text.as_bytes()[at - 1] == b'\\', "{text}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn no_name_changes_the_structure(names in proptest::collection::vec("[<>\"'&/=a-z\\PC]{1,24}", 12)) {
        // Equal names would be one column.
        let name = |position: usize| format!("{position}{}", names[position]);
        let expected = elements(&html::page(&content(&equity(40), &plain)).unwrap());
        let page = html::page(&content(&equity(40), &name)).unwrap();
        prop_assert_eq!(elements(&page), expected);
        let lines = |text: &str| text.lines().count();
        let text = markdown::text(&content(&equity(40), &name));
        prop_assert_eq!(lines(&text), lines(&markdown::text(&content(&equity(40), &plain))));
    }
}

#[test]
fn markdown_has_the_same_tables() {
    let content = content(&equity(300), &plain);
    let text = markdown::text(&content);
    for part in [
        "# Report on name 2\n",
        "| Name | Value |\n|---|---:|\n| name 5 | name 6 |\n| Net Profit | 12\\.3\\% |\n",
        "## Drawdowns\n",
        "## Monthly returns\n\n| Year | Jan |",
        "## Parameters that were tried\n\n| name 9 |",
        "## Walk-forward windows\n",
        "| 2020-01-01 | 100000.00 | 0.00 % |\n",
        "## Left out\n\n- name 7\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // All rows of a table have as many cells as its head.
    for table in text.split("\n\n").filter(|it| it.starts_with('|')) {
        let counts: BTreeMap<usize, &str> = table
            .lines()
            .map(|line| (line.replace("\\|", "").matches('|').count(), line))
            .collect();
        assert_eq!(counts.len(), 1, "{counts:?}");
    }
}

#[test]
fn keys_are_plain_paths() {
    let checked = |key: &str| {
        let input: Report = serde_json::from_value(serde_json::json!({ "key": key })).unwrap();
        check(&input).map_err(|failure| failure.to_string())
    };
    for key in ["reports/momentum.html", "a b/c_1-2.md", "r"] {
        assert_eq!(checked(key), Ok(()), "{key}");
    }
    let long = "k".repeat(MAX_KEY + 1);
    for key in [
        "",
        "/a",
        "a//b",
        "../a",
        "a/..",
        "a/.hidden",
        "a\nb",
        "é",
        "a?b",
        &long,
    ] {
        assert!(checked(key).unwrap_err().contains("`key`"), "{key}");
    }
    let input: Report = serde_json::from_str("{}").unwrap();
    assert_eq!((input.format, input.key.clone()), (Format::Html, None));
    assert_eq!(check(&input).map_err(|it| it.to_string()), Ok(()));
}

#[test]
fn named_backtests_have_to_be_completed() {
    let mut listed = [summary(&[], 1.0), summary(&[], 2.0)];
    listed[0].backtest_id = "a".into();
    listed[0].status = Some(BacktestStatus::Completed);
    listed[1].backtest_id = "b".into();
    listed[1].status = Some(BacktestStatus::Running);
    assert_eq!(chosen(&listed, &[]).unwrap().len(), 1);
    assert_eq!(chosen(&listed, &["a".into()]).unwrap().len(), 1);
    for id in ["b", "c"] {
        let error = chosen(&listed, &[id.into()]).unwrap_err().to_string();
        assert!(error.contains("no completed backtest"), "{error}");
    }
}

/// Writes a page for people who change its looks: `QCHOST_PAGE=report.html cargo test -p strategy-lab`.
#[test]
fn a_page_can_be_looked_at() {
    if let Some(path) = std::env::var_os("QCHOST_PAGE") {
        let name = |position: usize| match position {
            0 => "Lab/strategy-lab".to_owned(),
            1 => "c1a5f0".to_owned(),
            2 => "fast=20 slow=100".to_owned(),
            8 => "fast".to_owned(),
            9 => "slow".to_owned(),
            position => position.to_string(),
        };
        std::fs::write(path, html::page(&content(&equity(1_300), &name)).unwrap()).unwrap();
    }
}
