//! Charts as SVG, without a script. Each says in words what it shows, and its figures are in a table beneath.

use maud::{Markup, html};

const WIDTH: usize = 720;
const HEIGHT: usize = 180;
/// Room for the scale on the left, and beneath for the names.
const LEFT: usize = 64;
const BOTTOM: usize = 22;

/// Something that is told in every bar, with its class of the style sheet.
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) class: &'static str,
}

/// A bar: its name, and how much there is of each series.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) parts: Vec<u64>,
}

impl Bar {
    fn sum(&self) -> u64 {
        self.parts.iter().sum()
    }
}

/// Bars beside each other, their parts on top of each other. `id` is unique on the page.
pub(super) fn bars(id: &str, title: &str, series: &[Series], bars: &[Bar], words: impl Fn(u64) -> String) -> Markup {
    let most = bars.iter().map(Bar::sum).max().unwrap_or(0).max(1);
    let (plot, slot) = (HEIGHT - BOTTOM - 8, (WIDTH - LEFT) / bars.len().max(1));
    let width = (slot * 7 / 10).clamp(1, 56);
    // Names that would run into each other are left out, but for the last.
    let every = (60 / slot.max(1) + 1).max(1);
    html! {
        figure.chart {
            figcaption {
                (title)
                @if series.len() > 1 { ul.legend { @for one in series { li class=(one.class) { (one.name) } } } }
            }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-labelledby={ (id) "-title " (id) "-desc" } {
                title id={ (id) "-title" } { (title) }
                desc id={ (id) "-desc" } {
                    @for bar in bars { @if bar.sum() > 0 { (bar.name) ": " (words(bar.sum())) ". " } }
                }
                @for (step, value) in [(0, 0), (1, most / 2), (2, most)] {
                    @let y = HEIGHT - BOTTOM - plot * step / 2;
                    line.grid x1=(LEFT) x2=(WIDTH) y1=(y) y2=(y) {}
                    @if step == 0 || value > 0 { text.scale x=(LEFT - 8) y=(y + 4) text-anchor="end" { (words(value)) } }
                }
                @for (place, bar) in bars.iter().enumerate() {
                    @let x = LEFT + slot * place + slot.saturating_sub(width) / 2;
                    g {
                        @if bar.sum() > 0 { title { (bar.name) ": " (words(bar.sum())) } }
                        @for (top, height, class) in stacked(bar, series, most, plot) {
                            rect class=(class) x=(x) y=(HEIGHT - BOTTOM - top) width=(width) height=(height) rx="1.5" {}
                        }
                    }
                    @let back = bars.len() - 1 - place;
                    @if back.is_multiple_of(every) {
                        text class={ "scale" @if !back.is_multiple_of(every * 2) { " second" } } x=(x + width / 2) y=(HEIGHT - 6) text-anchor="middle" { (bar.name.get(5..).unwrap_or(&bar.name)) }
                    }
                }
            }
        }
    }
}

/// Of each part that is there: its upper edge over the ground, its height, its class.
fn stacked(bar: &Bar, series: &[Series], most: u64, plot: usize) -> Vec<(usize, usize, &'static str)> {
    let scaled = |value: u64| usize::try_from(u128::from(value) * plot as u128 / u128::from(most)).unwrap_or(plot);
    let mut under = 0_u64;
    let mut out = Vec::new();
    for (part, one) in bar.parts.iter().zip(series) {
        let foot = scaled(under);
        under = under.saturating_add(*part);
        // What is there is seen, however little it is.
        let height = (scaled(under) - foot).max(usize::from(*part > 0));
        if height > 0 {
            out.push((foot + height, height, one.class));
        }
    }
    out
}
