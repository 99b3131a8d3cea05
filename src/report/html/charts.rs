//! Charts of the report as SVG. Colours are keys: the style sheet replaces them for light and dark mode.

use maud::{Markup, PreEscaped};
use plotters::{
    coord::Shift,
    prelude::{
        AreaSeries, ChartBuilder, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, IntoFont, IntoSegmentedCoord,
        LineSeries, PathElement, RGBColor, Rectangle, SVGBackend, SegmentValue,
    },
    style::{Color, TextStyle},
};

use crate::checkpoint::RunSummaryRow;

/// Must match style.css, which recolours the shapes that have these colours.
const CALLS: RGBColor = RGBColor(0x2a, 0x6f, 0xdb);
const THROTTLED: RGBColor = RGBColor(0xc9, 0x2a, 0x2a);
const QUOTA: RGBColor = RGBColor(0x5f, 0x63, 0x68);
const FINISHED: RGBColor = RGBColor(0x2b, 0x8a, 0x3e);
const STOPPED: RGBColor = RGBColor(0xe6, 0x77, 0x00);
const GRID: RGBColor = RGBColor(0xd0, 0xd4, 0xd9);

const WIDTH: u32 = 860;
/// Points of the rate curve, about one for every three pixels.
const POINTS: f64 = 280.0;
/// Upper bounds of the histogram's buckets, in milliseconds.
const LATENCY_BUCKETS_MS: [u64; 13] = [10, 20, 50, 100, 150, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 30_000];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn svg(height: u32, draw: impl FnOnce(&Area<'_>) -> Drawn) -> Markup {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
    draw(&area).and_then(|()| area.present()).expect("drawing into a string does not fail");
    drop(area);
    PreEscaped(text)
}

fn label<'a>() -> TextStyle<'a> {
    ("sans-serif", 13).into_font().color(&QUOTA)
}

/// The rate of calls over a span of running time, in seconds.
struct Segment {
    from: f64,
    to: f64,
    calls: f64,
    throttled: f64,
}

/// Segments of all runs in a row, without the time between runs.
fn segments(runs: &[RunSummaryRow]) -> Vec<Segment> {
    let seconds = |ms: i64| ms as f64 / 1_000.0;
    let length = |run: &RunSummaryRow| {
        seconds(run.paces.last().map_or(0, |last| last.at_ms) - run.paces.first().map_or(0, |first| first.at_ms))
    };
    let width = runs.iter().map(length).sum::<f64>() / POINTS;
    let mut all = Vec::new();
    let mut before = 0.0;
    for run in runs {
        let Some(first) = run.paces.first() else { continue };
        let mut start = first;
        for pace in &run.paces[1..] {
            let is_last = run.paces.last() == Some(pace);
            let span = seconds(pace.at_ms - start.at_ms);
            if span <= 0.0 || (span < width && !is_last) {
                continue;
            }
            all.push(Segment {
                from: before + seconds(start.at_ms - first.at_ms),
                to: before + seconds(pace.at_ms - first.at_ms),
                calls: pace.calls.saturating_sub(start.calls) as f64 / span,
                throttled: pace.throttled.saturating_sub(start.throttled) as f64 / span,
            });
            start = pace;
        }
        before += length(run);
    }
    all
}

/// Calls per second over the running time, with the quota as a line.
pub(super) fn pace(runs: &[RunSummaryRow]) -> Option<Markup> {
    let segments = segments(runs);
    let whole = segments.last()?.to;
    let (unit, name) = match whole {
        0.0..300.0 => (1.0, "seconds"),
        300.0..10_800.0 => (60.0, "minutes"),
        _ => (3_600.0, "hours"),
    };
    let quota = runs.iter().filter_map(|run| run.quota).fold(0.0, f64::max);
    let max = segments.iter().map(|segment| segment.calls).fold(quota, f64::max) * 1.1;
    let steps = |of: fn(&Segment) -> f64| -> Vec<(f64, f64)> {
        segments.iter().flat_map(|s| [(s.from / unit, of(s)), (s.to / unit, of(s))]).collect()
    };
    Some(svg(260, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(16)
            .x_label_area_size(38)
            .y_label_area_size(46)
            .build_cartesian_2d(0.0..whole / unit, 0.0..max)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(GRID.mix(0.0))
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(label())
            .x_desc(format!("{name} of running"))
            .y_desc("calls a second")
            .draw()?;
        chart.draw_series(AreaSeries::new(steps(|s| s.calls), 0.0, CALLS.mix(0.25)).border_style(CALLS))?;
        if segments.iter().any(|segment| segment.throttled > 0.0) {
            chart.draw_series(
                AreaSeries::new(steps(|s| s.throttled), 0.0, THROTTLED.mix(0.6)).border_style(THROTTLED),
            )?;
        }
        chart.draw_series(LineSeries::new([(0.0, quota), (whole / unit, quota)], QUOTA.stroke_width(1)))?;
        Ok(())
    }))
}

/// Histogram of response times.
pub(super) fn latencies(latencies: &crate::domain::Latencies) -> Option<Markup> {
    let bar = |ms: u64| LATENCY_BUCKETS_MS.iter().position(|&end| ms < end).unwrap_or(LATENCY_BUCKETS_MS.len());
    let mut bars = [0_u64; LATENCY_BUCKETS_MS.len() + 1];
    for (ms, n) in &latencies.0 {
        bars[bar(*ms)] += n;
    }
    let max = *bars.iter().max()?;
    let (first, last) = (bars.iter().position(|n| *n > 0)?, bars.iter().rposition(|n| *n > 0)?);
    let (first, last) = (first.saturating_sub(1), (last + 1).min(bars.len() - 1));
    let name = |at: usize| match (at.checked_sub(1).map(|below| LATENCY_BUCKETS_MS[below]), LATENCY_BUCKETS_MS.get(at))
    {
        (_, Some(end)) => format!("< {}", milliseconds(*end)),
        (Some(from), None) => format!("from {}", milliseconds(from)),
        (None, None) => String::new(),
    };
    Some(svg(220, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(26)
            .y_label_area_size(60)
            .build_cartesian_2d((first..last).into_segmented(), 0..max + max / 10 + 1)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(GRID.mix(0.0))
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(label())
            .x_labels(last - first + 1)
            .x_label_formatter(&|at| match at {
                SegmentValue::CenterOf(at) | SegmentValue::Exact(at) => name(*at),
                SegmentValue::Last => String::new(),
            })
            .y_desc("responses")
            .draw()?;
        chart.draw_series((first..=last).map(|at| {
            let corners = [(SegmentValue::Exact(at), bars[at]), (SegmentValue::Exact(at + 1), 0)];
            let mut rectangle = Rectangle::new(corners, CALLS.mix(0.8).filled());
            rectangle.set_margin(0, 0, 4, 4);
            rectangle
        }))?;
        Ok(())
    }))
}

fn milliseconds(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { format!("{} s", ms / 1_000) }
}

/// Timeline of the runs, the oldest at the top.
pub(super) fn timeline(runs: &[RunSummaryRow]) -> Option<Markup> {
    let from = runs.iter().map(|run| run.started_ms).min()?;
    let to = runs.iter().map(RunSummaryRow::last_ms).max()?.max(from + 1_000);
    // Three pixels: a narrower bar would be invisible.
    let min_ms = (to - from) / i64::from(WIDTH) * 3;
    let rows = runs.len() as f64;
    let x = |ms: i64| ms as f64;
    let height = 60 + 16 * runs.len() as u32;
    Some(svg(height, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(24)
            .x_label_area_size(26)
            .y_label_area_size(10)
            .build_cartesian_2d(x(from)..x(to + min_ms), 0.0..rows)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(GRID.mix(0.0))
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(label())
            .x_labels(6)
            .y_labels(1)
            .y_label_formatter(&|_| String::new())
            .x_label_formatter(&|at| short_time(*at as i64, to - from))
            .draw()?;
        chart.draw_series(runs.iter().enumerate().map(|(at, run)| {
            let row = rows - at as f64;
            let end = run.last_ms().max(run.started_ms + min_ms);
            let colour = match run.exit_code {
                _ if run.is_live => CALLS,
                Some(0 | 6) => FINISHED,
                Some(_) => STOPPED,
                None => THROTTLED,
            };
            let mut bar = Rectangle::new([(x(run.started_ms), row), (x(end), row - 1.0)], colour.filled());
            bar.set_margin(3, 3, 0, 0);
            bar
        }))?;
        chart.draw_series([PathElement::new([(x(from), 0.0), (x(to + min_ms), 0.0)], GRID)])?;
        Ok(())
    }))
}

/// Formats a time with the precision that the span needs.
fn short_time(ms: i64, span_ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    let format = match span_ms {
        i64::MIN..600_000 => "%H:%M:%S",
        600_000..DAY_MS => "%H:%M",
        DAY_MS.. => "%m-%d %H:%M",
    };
    jiff::Timestamp::from_millisecond(ms).unwrap_or_default().strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkpoint::RateSample, domain::Latencies};

    fn run(started_ms: i64, paces: &[(i64, u64)]) -> RunSummaryRow {
        let pace = |&(after, calls): &(i64, u64)| RateSample {
            at_ms: started_ms + after,
            calls,
            throttled: 0,
            newly_enrolled: 0,
        };
        RunSummaryRow {
            run_id: "r".into(),
            started_ms,
            ended_ms: None,
            exit_code: None,
            exit_reason: None,
            quota: Some(50.0),
            limited_by: None,
            is_live: false,
            totals: RateSample::default(),
            latencies: Latencies::default(),
            paces: paces.iter().map(pace).collect(),
        }
    }

    #[test]
    fn rate_curve_skips_time_between_runs() {
        let runs = [run(0, &[(0, 0), (10_000, 490)]), run(90_000_000, &[(0, 0), (5_000, 245), (10_000, 245)])];
        let shown: Vec<(f64, f64, f64)> = segments(&runs).iter().map(|s| (s.from, s.to, s.calls)).collect();
        assert_eq!(shown, [(0.0, 10.0, 49.0), (10.0, 15.0, 49.0), (15.0, 20.0, 0.0)]);
    }

    #[test]
    fn rate_curve_has_few_hundred_points() {
        let paces: Vec<(i64, u64)> = (0..51_840).map(|n| (n * 5_000, n as u64 * 245)).collect();
        let all = segments(&[run(0, &paces)]);
        assert!((200..=POINTS as usize + 1).contains(&all.len()), "{}", all.len());
        assert!(all.iter().all(|segment| (segment.calls - 49.0).abs() < 0.01));
    }

    #[test]
    fn no_data_draws_no_chart() {
        assert!(pace(&[]).is_none() && timeline(&[]).is_none() && latencies(&Latencies::default()).is_none());
        let runs = [run(0, &[(0, 0), (10_000, 490)])];
        assert!(pace(&runs).unwrap().0.contains("calls a second"));
        assert!(timeline(&runs).is_some());
        assert!(latencies(&Latencies(vec![(42, 9), (40_000, 1)])).unwrap().0.contains("from 30 s"));
    }
}
