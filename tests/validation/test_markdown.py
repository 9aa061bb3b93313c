"""The accuracy page says what the report says."""

from validation.markdown import to_markdown

REPORT = {
    "summaries": [
        {
            "kind": "allocated",
            "count": 1,
            "median_error": 0.0002,
            "within_half_percent": 1.0,
            "within_one_percent": 1.0,
            "within_two_percent": 1.0,
        }
    ],
    "comparisons": [
        {
            "id": "made-001",
            "workload": "train",
            "metric": "allocated",
            "predicted_bytes": 3 << 30,
            "published_bytes": 2 << 30,
            "error": 0.5,
            "notes": "half as much again",
            "failure": "",
        }
    ],
    "safety": {
        "kinds": [
            {
                "job": "one GPU, training",
                "figure": "reserved",
                "grade": "A",
                "rows": 2,
                "inside": 1,
                "false_fits": 1,
                "width_bytes": 1 << 29,
                "width_percent": 2.5,
                "reserved_width_percent": 1.5,
            }
        ],
        "rows": [
            {
                "id": "made-004",
                "figure": "reserved",
                "grade": "A",
                "low_bytes": 1 << 30,
                "best_bytes": 2 << 30,
                "published_bytes": 4 << 30,
                "high_bytes": 3 << 30,
                "inside": False,
                "false_fit": True,
            }
        ],
    },
    "not_forecast": [{"id": "made-002", "reason": "quantised"}, {"id": "made-003", "reason": "quantised"}],
}


def test_rows_misses_and_reasons_are_on_the_page() -> None:
    page = to_markdown(REPORT)
    assert "| made-001 | train | allocated | 3.0000 | 2.0000 | +50.000% |" in page
    assert "- **made-001**: half as much again" in page
    assert "| quantised | 2 |" in page
    assert "| one GPU, training | reserved | A | 2 | 1 | 1 | 0.50 | 2.50% | 1.50% |" in page
    assert "| made-004 | reserved | A | 1.0000 | 2.0000 | 4.0000 | 3.0000 | above |" in page
    assert "| allocated | 1 | 0.020% | 100% | 100% | 100% |" in page
