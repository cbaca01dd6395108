"""Three kinds of sites, as log-normal medians and spreads; docs/sites.md says which numbers are measured, and by whom,
and which are assumed."""

PRESETS = {
    "hospital": {
        "uplink": {"median": 500e6, "spread": 0.5},
        "downlink": {"median": 500e6, "spread": 0.5},
        "latency": {"median": 0.01, "spread": 0.3},
        "flops": {"median": 5e12, "spread": 0.7},
        "memory": 16e9,
    },
    "office": {
        "uplink": {"median": 1e6, "spread": 0.3},
        "downlink": {"median": 12e6, "spread": 0.5},
        "latency": {"median": 0.04, "spread": 0.3},
        "flops": {"median": 1e11, "spread": 0.5},
        "memory": 8e9,
        "hours": "8-18",
    },
    "phone": {
        "uplink": {"median": 11e6, "spread": 0.8},
        "downlink": {"median": 36e6, "spread": 0.8},
        "latency": {"median": 0.04, "spread": 0.5},
        "flops": {"median": 1e10, "spread": 0.7},
        "memory": 2e9,
        "hours": "22-6",
    },
}
