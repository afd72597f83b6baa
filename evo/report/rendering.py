"""HTML pages that need no network and run no foreign code, whatever texts a run has."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from evo.printable import escaped
from evo.report.figures.style import Chart


def rendered(template: str, charts: Mapping[str, Chart], said: Mapping[str, Any]) -> str:
    """Render a template with charts and texts to HTML.

    All that a run brings is escaped, and a content security policy with a nonce derived from what
    the page says keeps any script but ours from running and anything at all from being fetched.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("evo"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = {
        name: {
            "title": chart.title,
            "caption": chart.caption,
            "height": chart.figure.layout.height,
            "wide": chart.wide,
            "json": Markup(_inert(chart.figure.to_json())),
        }
        for name, chart in charts.items()
    }
    text = json.dumps([said, drawn], default=str).encode()
    return environment.get_template(template).render(
        nonce=hashlib.sha256(text).hexdigest()[:32],
        plotly=Markup(get_plotlyjs()),
        charts=drawn,
        **said,
    )


def _shown(value: object) -> object:
    """A value as a page shows it: control characters have no place in HTML, in markup or not."""
    return escaped(value) if type(value) is str else value


def _inert(text: str) -> str:
    """JSON that no HTML parser can take for anything else."""
    for mark in ("<", ">", "&", "\u2028", "\u2029", *map(chr, range(0x7F, 0xA0))):
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text
