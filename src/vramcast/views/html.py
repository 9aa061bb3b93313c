"""A forecast as a small HTML block, for notebooks: the verdict, a stacked bar of the allocated peak, and its legend."""

from html import escape

from vramcast.forecast import Forecast
from vramcast.views.rows import CATEGORY_COLORS, breakdown_rows, job_line, peak_rows, verdict_line


def forecast_html(forecast: Forecast, headline: str | None = None) -> str:
    """Self-contained HTML; every text is escaped. The first line is the verdict, or what is told in its place."""
    rows = breakdown_rows(forecast)
    bar = "".join(
        f'<span title="{escape(row.name)} {row.size}" style="display:inline-block;height:18px;width:{row.share:.4%};'
        f'background:{CATEGORY_COLORS[row.category]}"></span>'
        for row in rows
    )
    legend = "".join(
        f'<tr><td style="color:{CATEGORY_COLORS[row.category]}">&#9632;</td><td style="text-align:left">{escape(row.name)}</td>'
        f"<td>{row.size}</td><td>{row.share:.1%}</td></tr>"
        for row in rows
    )
    peaks = "".join(
        f'<tr><td style="text-align:left">{name}</td><td>{size}</td><td style="text-align:left">{escape(meaning)}</td></tr>'
        for name, size, meaning in peak_rows(forecast)
    )
    return (
        f'<div class="vramcast"><b>{escape(headline or verdict_line(forecast))}</b><br><small>{escape(job_line(forecast))}</small>'
        f'<div style="width:600px;white-space:nowrap;font-size:0">{bar}</div><table>{peaks}</table><table>{legend}</table></div>'
    )
