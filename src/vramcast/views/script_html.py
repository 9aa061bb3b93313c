"""A dry run as a small HTML block, for notebooks: the forecast, and the largest lines of source at its peak."""

from html import escape

from vramcast.forecast.script_run import ScriptRun
from vramcast.views.html import forecast_html
from vramcast.views.script_rows import ending_line, headline, line_rows, warning_line


def script_html(run: ScriptRun) -> str:
    """Self-contained HTML; every text is escaped."""
    rows = "".join(
        f"<tr><td>{row.size}</td>"
        + "".join(f'<td style="text-align:left">{escape(text)}</td>' for text in row[1:4])
        + "</tr>"
        for row in line_rows(run.live_lines)
    )
    warning = warning_line(run)
    warned = "" if warning is None else f"<p><b>{escape(warning)}</b></p>"
    return f"{forecast_html(run, headline(run))}{warned}<table>{rows}</table><small>{escape(ending_line(run))}</small>"
