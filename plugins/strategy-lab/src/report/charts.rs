//! Charts as SVG, drawn by `plotters`.
//!
//! The backend writes colours into the drawing, which can suit one background only. So each pen is a colour that stands for a
//! class of `style.css`, and is replaced by that class at the end: lines differ by dashes besides colour, and cells say their values.
//!
//! Invariant: a drawing holds no colour, no link and no script, and all texts in it are escaped by the backend.

use jiff::civil::Date;
use jiff::{ToSpan, Unit};
use plotters::coord::Shift;
use plotters::coord::combinators::BindKeyPoints;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::content::{HeatMap, Month};
use super::text::{day_number, number, percent, shown};
use crate::robustness::walk_forward::Outcome;

/// Width of a drawing in its own units: two of them are a pixel where it is shown at its largest.
const WIDTH: u32 = 1_280;
const HEIGHT: u32 = 640;
/// Height of letters: 11 pixels where the page is 400 wide.
const LETTERS: u32 = 50;
/// Length of a letter at most, for the place of labels.
const LETTER_WIDTH: u32 = 22;
/// Height of a row of the heat map and of the windows.
const ROW: u32 = 72;
/// Marks of an axis at most.
const MAX_MARKS: usize = 6;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Why a drawing failed.
#[derive(Debug, thiserror::Error)]
#[error("the chart could not be drawn: {0}")]
pub(super) struct ChartError(String);

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for ChartError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

/// What is drawn with: a class of `style.css`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pen {
    Text,
    Frame,
    Grid,
    Line,
    Dashed,
    Area,
    Box,
    Gain,
    Loss,
    Shade(u8),
}

/// Shades of a heat map.
const SHADES: u8 = 5;

const PENS: [(Pen, &str); 14] = [
    (Pen::Text, "text"),
    (Pen::Frame, "frame"),
    (Pen::Grid, "grid"),
    (Pen::Line, "line"),
    (Pen::Dashed, "dashed"),
    (Pen::Area, "area"),
    (Pen::Box, "box"),
    (Pen::Gain, "gain"),
    (Pen::Loss, "loss"),
    (Pen::Shade(0), "shade0"),
    (Pen::Shade(1), "shade1"),
    (Pen::Shade(2), "shade2"),
    (Pen::Shade(3), "shade3"),
    (Pen::Shade(4), "shade4"),
];

impl Pen {
    /// The colour that stands for it.
    fn color(self) -> RGBColor {
        let position = PENS.iter().position(|(pen, _)| *pen == self);
        let number = position.and_then(|it| u8::try_from(it).ok());
        RGBColor(0xfe, 0xed, number.unwrap_or_default())
    }

    fn filled(self) -> ShapeStyle {
        self.color().filled()
    }

    fn stroke(self) -> ShapeStyle {
        self.color().stroke_width(3)
    }
}

/// Letters that are centred on their place, or begin or end there.
fn letters(from: HPos) -> TextStyle<'static> {
    let style = TextStyle::from(("sans-serif", LETTERS).into_font());
    let pos = Pos::new(from, VPos::Center);
    TextStyle {
        color: Pen::Text.color().to_backend_color(),
        pos,
        ..style
    }
}

/// A drawing of this size, with classes for colours.
fn drawing(
    height: u32,
    width: u32,
    draw: impl FnOnce(&Area<'_>) -> Result<(), ChartError>,
) -> Result<String, ChartError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        draw(&area)?;
        area.present()?;
    }
    for (pen, class) in PENS {
        let RGBColor(red, green, blue) = pen.color();
        for attribute in ["fill", "stroke"] {
            // In texts a quotation mark is escaped, so that this can only be an attribute.
            let color = format!("{attribute}=\"#{red:02X}{green:02X}{blue:02X}\"");
            svg = svg.replace(&color, &format!("class=\"{class}\""));
        }
    }
    let size = format!("<svg width=\"{width}\" height=\"{height}\" ");
    let (_, inner) = svg
        .split_once(&size)
        .ok_or_else(|| ChartError("the backend begins a drawing in another way".to_owned()))?;
    Ok(inner.trim_end().to_owned())
}

/// Lines over days: the first one solid, a second one dashed, or an area down from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Lines,
    Area,
}

/// Values over days.
pub(super) fn over_days(
    lines: &[&[(Date, f64)]],
    kind: Kind,
    label: fn(f64) -> String,
) -> Result<String, ChartError> {
    let all = || lines.iter().flat_map(|it| it.iter());
    let (Some(first), Some(last)) = (
        all().map(|(day, _)| *day).min(),
        all().map(|(day, _)| *day).max(),
    ) else {
        return Err(ChartError("there are no days".to_owned()));
    };
    let (low, high) = padded(all().map(|(_, value)| *value), kind == Kind::Area);
    let marks = date_marks(first, last);
    drawing(HEIGHT, WIDTH, |area| {
        let days = x(first)..x(last).max(x(first) + 1);
        let keys = marks.iter().map(|(day, _)| x(*day)).collect();
        let mut chart = ChartBuilder::on(area)
            .margin(24)
            .margin_right(70)
            .x_label_area_size(70)
            .y_label_area_size(label_width([low, high].map(label).iter()))
            .build_cartesian_2d(days.with_key_points(keys), low..high)?;
        let date_label = |value: &i32| {
            let found = marks.iter().find(|(day, _)| x(*day) == *value);
            found.map_or_else(String::new, |(_, label)| label.clone())
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(Pen::Grid.stroke())
            .axis_style(Pen::Frame.stroke())
            .label_style(letters(HPos::Center))
            .y_labels(MAX_MARKS)
            .y_label_formatter(&|value| label(*value))
            .x_label_formatter(&date_label)
            .draw()?;
        for (number, line) in lines.iter().enumerate() {
            let points = line.iter().map(|(day, value)| (x(*day), *value));
            if kind == Kind::Area {
                let last = line.last().map(|(day, _)| (x(*day), 0.0));
                let first = line.first().map(|(day, _)| (x(*day), 0.0));
                let outline: Vec<(i32, f64)> = first
                    .into_iter()
                    .chain(points.clone())
                    .chain(last)
                    .collect();
                chart.draw_series([Polygon::new(outline, Pen::Area.filled())])?;
            }
            let pen = if number == 0 { Pen::Line } else { Pen::Dashed };
            chart.draw_series(LineSeries::new(points, pen.color().stroke_width(5)))?;
        }
        Ok(())
    })
}

/// The returns of months: gains up, losses down.
pub(super) fn monthly(months: &[Month]) -> Result<String, ChartError> {
    let (low, high) = padded(months.iter().map(|it| it.value), true);
    // A month is 20 units wide.
    let position = |number: usize| i32::try_from(number.saturating_mul(20)).unwrap_or(i32::MAX);
    let years: Vec<(i32, i16)> = months
        .iter()
        .enumerate()
        .filter(|(number, it)| *number == 0 || it.month == 1)
        .map(|(number, it)| (position(number), it.year))
        .collect();
    let step = years.len().div_ceil(MAX_MARKS).max(1);
    let years: Vec<(i32, i16)> = years.into_iter().step_by(step).collect();
    drawing(HEIGHT, WIDTH, |area| {
        let keys = years.iter().map(|(at, _)| *at).collect();
        let mut chart = ChartBuilder::on(area)
            .margin(24)
            .margin_right(70)
            .x_label_area_size(70)
            .y_label_area_size(label_width([low, high].map(percent).iter()))
            .build_cartesian_2d(
                (0..position(months.len()).max(1)).with_key_points(keys),
                low..high,
            )?;
        let year = |value: &i32| {
            let found = years.iter().find(|(at, _)| at == value);
            found.map_or_else(String::new, |(_, year)| year.to_string())
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(Pen::Grid.stroke())
            .axis_style(Pen::Frame.stroke())
            .label_style(letters(HPos::Center))
            .y_labels(MAX_MARKS)
            .y_label_formatter(&|value| percent(*value))
            .x_label_formatter(&year)
            .draw()?;
        let bars = months.iter().enumerate().map(|(number, month)| {
            let left = position(number);
            let pen = if month.value < 0.0 {
                Pen::Loss
            } else {
                Pen::Gain
            };
            Rectangle::new([(left + 3, 0.0), (left + 17, month.value)], pen.filled())
        });
        chart.draw_series(bars.collect::<Vec<_>>())?;
        Ok(())
    })
}

/// How wide the drawing of a heat map is.
fn cell_width(map: &HeatMap) -> u32 {
    let texts = map.cells.iter().flatten().flatten();
    let texts: Vec<String> = texts.map(|it| value_label(map, *it)).collect();
    let heads = map.columns.iter().map(|it| short(it));
    let texts: Vec<String> = texts.into_iter().chain(heads).collect();
    label_width(texts.iter()).max(120)
}

/// A value of a heat map as its cell says it.
pub(super) fn value_label(map: &HeatMap, value: f64) -> String {
    if map.statistic.is_fraction() {
        percent(value)
    } else {
        number(value)
    }
}

/// A heat map: the better, the stronger the shade, with the value in every cell.
pub(super) fn heat_map(map: &HeatMap) -> Result<String, ChartError> {
    let heads: Vec<String> = map.rows.iter().map(|it| short(it)).collect();
    let head = label_width(heads.iter());
    let cell = cell_width(map);
    let count = |items: usize| u32::try_from(items).unwrap_or(u32::MAX);
    let width = head + cell.saturating_mul(count(map.columns.len())) + 24;
    let height = ROW.saturating_mul(count(map.rows.len()).saturating_add(1)) + 24;
    let values = || map.cells.iter().flatten().flatten().copied();
    // What is best has the strongest shade, also of drawdowns.
    let best = values()
        .reduce(|a, b| map.statistic.better(a, b))
        .unwrap_or(0.0);
    let worst = values()
        .reduce(|a, b| {
            if map.statistic.better(a, b) == a {
                b
            } else {
                a
            }
        })
        .unwrap_or(0.0);
    drawing(height, width.max(WIDTH), |area| {
        let column = |number: usize| signed(head + cell * count(number));
        let row = |number: usize| signed(ROW * (count(number) + 1));
        let (half_cell, half_row) = (signed(cell / 2), signed(ROW / 2));
        for (number, text) in map.columns.iter().enumerate() {
            let at = (column(number) + half_cell, half_row);
            area.draw(&Text::new(short(text), at, letters(HPos::Center)))?;
        }
        for (down, text) in heads.iter().enumerate() {
            let at = (signed(head) - 20, row(down) + half_row);
            area.draw(&Text::new(text.clone(), at, letters(HPos::Right)))?;
            for (across, value) in map.cells.get(down).into_iter().flatten().enumerate() {
                let corners = [
                    (column(across), row(down)),
                    (column(across + 1), row(down + 1)),
                ];
                let shade = value.map_or(0, |it| shade(it, worst, best));
                area.draw(&Rectangle::new(corners, Pen::Shade(shade).filled()))?;
                area.draw(&Rectangle::new(corners, Pen::Frame.color().stroke_width(1)))?;
                let label = value.map_or_else(|| "–".to_owned(), |it| value_label(map, it));
                let at = (column(across) + half_cell, row(down) + half_row);
                area.draw(&Text::new(label, at, letters(HPos::Center)))?;
            }
        }
        Ok(())
    })
}

/// The windows of a walk-forward analysis, one below the other: the frame is the period in which the choice was made, the filled part the
/// one after it, with the annual returns of both.
pub(super) fn windows(outcomes: &[Outcome]) -> Result<String, ChartError> {
    let date = |text: &str| {
        text.parse::<Date>()
            .map_err(|error| ChartError(error.to_string()))
    };
    let mut rows = Vec::new();
    for outcome in outcomes {
        let label = format!(
            "{} → {}",
            percent(outcome.in_sample_return),
            percent(outcome.out_of_sample_return)
        );
        let days = [
            &outcome.in_sample_first,
            &outcome.out_of_sample_first,
            &outcome.out_of_sample_last,
        ];
        let [from, middle, to] = days.map(|it| date(it));
        rows.push((x(from?), x(middle?), x(to?) + 1, label));
    }
    let first = rows.iter().map(|it| it.0).min().unwrap_or_default();
    let last = rows.iter().map(|it| it.2).max().unwrap_or_default();
    let labels: Vec<String> = rows.iter().map(|it| it.3.clone()).collect();
    let labels = label_width(labels.iter());
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    drawing(ROW.saturating_mul(count) + 24, WIDTH, |area| {
        let left = 24.0;
        let right = f64::from(WIDTH.saturating_sub(labels).saturating_sub(24));
        let place = |day: i32| {
            let share = f64::from(day - first) / f64::from((last - first).max(1));
            rounded(left + (right - left) * share)
        };
        for (number, (from, middle, to, label)) in (0u32..).zip(&rows) {
            let top = signed(ROW * number + 24);
            let (upper, lower) = (top + 4, top + signed(ROW) - 16);
            let chosen = [(place(*from), upper), (place(*middle), lower)];
            let proved = [(place(*middle), upper), (place(*to), lower)];
            area.draw(&Rectangle::new(chosen, Pen::Box.stroke()))?;
            area.draw(&Rectangle::new(proved, Pen::Loss.filled()))?;
            let at = (rounded(right) + 24, (upper + lower) / 2);
            area.draw(&Text::new(label.clone(), at, letters(HPos::Left)))?;
        }
        Ok(())
    })
}

fn x(day: Date) -> i32 {
    i32::try_from(day_number(day)).unwrap_or(0)
}

/// A place in a drawing, which is far below the bound.
fn rounded(place: f64) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast from a float keeps to the range"
    )]
    let place = libm::round(place) as i32;
    place
}

fn signed(length: u32) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

/// A value of a parameter, short enough for the head of a row.
fn short(text: &str) -> String {
    shown(text).chars().take(12).collect()
}

/// Which shade a value between the worst and the best has.
fn shade(value: f64, worst: f64, best: f64) -> u8 {
    let share = (value - worst) / (best - worst);
    let thresholds = (1..SHADES).filter(|step| share >= f64::from(*step) / f64::from(SHADES));
    u8::try_from(thresholds.count()).unwrap_or_default()
}

/// The room that labels need.
fn label_width<'a>(labels: impl Iterator<Item = &'a String>) -> u32 {
    let longest = labels
        .map(|it| it.chars().count())
        .max()
        .unwrap_or_default();
    LETTER_WIDTH * u32::try_from(longest).unwrap_or_default() + 40
}

/// The lowest and the highest value with some room around, and zero among them if asked for.
fn padded(values: impl Iterator<Item = f64>, with_zero: bool) -> (f64, f64) {
    let zero = with_zero.then_some(0.0);
    let (low, high) = values
        .chain(zero)
        .filter(|it| it.is_finite())
        .fold((f64::MAX, f64::MIN), |(low, high), it| {
            (low.min(it), high.max(it))
        });
    if low > high {
        return (0.0, 1.0);
    }
    let room = ((high - low) * 0.05)
        .max(high.abs().max(low.abs()) * 1e-6)
        .max(1e-9);
    let keeps_zero = |edge: f64| if with_zero && edge == 0.0 { 0.0 } else { room };
    (
        low - keeps_zero(low),
        high + keeps_zero(high).max(if with_zero { room } else { 0.0 }),
    )
}

/// Days to mark on an axis, with their labels: years, months or days, at most [`MAX_MARKS`].
fn date_marks(first: Date, last: Date) -> Vec<(Date, String)> {
    let month = Date::new(first.year(), first.month(), 1).unwrap_or(first);
    let january = Date::new(first.year(), 1, 1).unwrap_or(first);
    let marks = |from: Date, months: i32, format: &str| -> Vec<(Date, String)> {
        let starts = (0..2_000).map_while(|step| from.checked_add((step * months).months()).ok());
        starts
            .take_while(|day| *day <= last)
            .filter(|day| *day >= first)
            .map(|day| (day, day.strftime(format).to_string()))
            .take(MAX_MARKS + 1)
            .collect()
    };
    let steps = [(month, 1), (month, 3), (january, 6)];
    for (from, months) in steps {
        let found = marks(from, months, "%Y-%m");
        if (2..=MAX_MARKS).contains(&found.len()) {
            return found;
        }
    }
    for years in [1, 2, 5, 10, 20, 50] {
        let found = marks(january, 12 * years, "%Y");
        if (2..=MAX_MARKS).contains(&found.len()) {
            return found;
        }
    }
    let days = first.until((Unit::Day, last)).map_or(0, |it| it.get_days());
    let ends = if days > 0 {
        vec![first, last]
    } else {
        vec![first]
    };
    ends.into_iter().map(|day| (day, day.to_string())).collect()
}
