"""The harness that shows notebooks in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from browsing import OpenNotebook

pytestmark = pytest.mark.xdist_group("browser")

CELLS = ["import ipywidgets", "slider = ipywidgets.IntSlider(description='Deals', max=10); slider"]


@pytest.mark.parametrize("app", ["lab", "notebook", "voila"])
def test_slider__moves_in_the_page_and_in_the_kernel(open_notebook: OpenNotebook, app: str) -> None:
    """A click in the page arrives in Python, in all three applications, and nothing leaves this machine."""
    sheet = open_notebook(CELLS, app).run()
    sheet.page.locator(".noUi-target").click()
    sheet.wait_for("slider.value == 5")
    assert sheet.python("slider.value * 2") == 10
    assert not sheet.foreign_requests
    assert not sheet.console_errors


def test_run__reports_the_error_of_a_cell(open_notebook: OpenNotebook) -> None:
    """A failing cell does not pass for a shown one; a dark theme is dark."""
    sheet = open_notebook(["1 / 0"], "lab", theme="dark")
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        sheet.run()
    assert sheet.page.locator("body").get_attribute("data-jp-theme-light") == "false"
