-- A history as the release that knew version 2 left it. Never to be edited.
BEGIN TRANSACTION;
CREATE TABLE baselines (
        set_at TEXT NOT NULL,
        workload_key TEXT NOT NULL,
        engine TEXT NOT NULL,
        door TEXT NOT NULL,
        run_id TEXT NOT NULL REFERENCES runs (id),
        reason TEXT NOT NULL,
        UNIQUE (set_at, run_id)
    );
INSERT INTO "baselines" VALUES('2026-01-01T01:00:00Z','m-key','f5','http','20260101T000000-aa','set by hand');
CREATE TABLE digests (
        path TEXT PRIMARY KEY,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        sha256 TEXT NOT NULL
    );
INSERT INTO "digests" VALUES('/w.safetensors',7,9,'abc');
CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        started TEXT NOT NULL,
        workload TEXT NOT NULL,
        workload_key TEXT NOT NULL,
        engine TEXT NOT NULL,
        door TEXT NOT NULL,
        body TEXT NOT NULL
    );
INSERT INTO "runs" VALUES('20260101T000000-aa','2026-01-01T00:00:00Z','M','m-key','f5','http','{"device": "cuda:0", "door": "http", "engine": "f5", "extra": {}, "fingerprint": {"after": {"clocks": "CPU 2201 MHz, GPU 1300 MHz, EMC 3199 MHz", "events": {"OC3": 4}, "gpu_hz": 1300500000, "jetson": true, "lock_unknown": "", "loose": [], "mode": "MAXN", "staged": false, "temperatures": {"gpu-thermal": 52.0}, "throttles": []}, "before": {"clocks": "CPU 2201 MHz, GPU 1300 MHz, EMC 3199 MHz", "events": {"OC3": 4}, "gpu_hz": 1300500000, "jetson": true, "lock_unknown": "", "loose": [], "mode": "MAXN", "staged": false, "temperatures": {"gpu-thermal": 52.0}, "throttles": []}, "during": [], "software": {"NFE": 7, "engine": "f5", "series": "abc123", "torch": "2.8.0"}}, "floor_s": null, "id": "20260101T000000-aa", "kind": "custom", "marks": [], "memory": {"device_peak": null, "rss_after": null, "rss_before": null}, "note": "", "samples": [{"at_s": 0.0, "audio_s": 8.0, "engine_s": 1.36, "first_audio_s": 0.34, "queue_s": 0.0, "total_s": 1.37}, {"at_s": 1.0, "audio_s": 8.0, "engine_s": 1.368, "first_audio_s": 0.342, "queue_s": 0.0, "total_s": 1.3780000000000001}, {"at_s": 2.0, "audio_s": 8.0, "engine_s": 1.352, "first_audio_s": 0.338, "queue_s": 0.0, "total_s": 1.362}, {"at_s": 3.0, "audio_s": 8.0, "engine_s": 1.376, "first_audio_s": 0.344, "queue_s": 0.0, "total_s": 1.386}, {"at_s": 4.0, "audio_s": 8.0, "engine_s": 1.364, "first_audio_s": 0.341, "queue_s": 0.0, "total_s": 1.374}], "started": "2026-01-01T00:00:00Z", "summary": {"engine_s": {"count": 5, "high": 1.376, "largest": 1.376, "low": 1.352, "mean": 1.3639999999999999, "median": 1.364, "p95": 1.3743999999999998, "smallest": 1.352, "spread": 0.007624633431084936}, "first_audio_s": {"count": 5, "high": 0.344, "largest": 0.344, "low": 0.338, "mean": 0.34099999999999997, "median": 0.341, "p95": 0.34359999999999996, "smallest": 0.338, "spread": 0.007624633431084936}, "rtf": {"count": 5, "high": 0.172, "largest": 0.172, "low": 0.169, "mean": 0.17049999999999998, "median": 0.1705, "p95": 0.17179999999999998, "smallest": 0.169, "spread": 0.007624633431084936}, "total_s": {"count": 5, "high": 1.386, "largest": 1.386, "low": 1.362, "mean": 1.374, "median": 1.374, "p95": 1.3843999999999999, "smallest": 1.362, "spread": 0.007569141193595235}}, "version": 1, "warm_up": 3, "workload": "M", "workload_key": "m-key"}');
INSERT INTO "runs" VALUES('20260102T000000-bb','2026-01-02T00:00:00Z','M','m-key','f5','http','{"device": "cuda:0", "door": "http", "engine": "f5", "extra": {}, "fingerprint": {"after": {"clocks": "CPU 2201 MHz, GPU 1300 MHz, EMC 3199 MHz", "events": {"OC3": 4}, "gpu_hz": 1300500000, "jetson": true, "lock_unknown": "", "loose": ["GPU"], "mode": "MAXN", "staged": false, "temperatures": {"gpu-thermal": 52.0}, "throttles": []}, "before": {"clocks": "CPU 2201 MHz, GPU 1300 MHz, EMC 3199 MHz", "events": {"OC3": 4}, "gpu_hz": 1300500000, "jetson": true, "lock_unknown": "", "loose": ["GPU"], "mode": "MAXN", "staged": false, "temperatures": {"gpu-thermal": 52.0}, "throttles": []}, "during": [], "software": {"NFE": 7, "engine": "f5", "series": "abc123", "torch": "2.8.0"}}, "floor_s": null, "id": "20260102T000000-bb", "kind": "custom", "marks": ["clocks were not locked: GPU"], "memory": {"device_peak": null, "rss_after": null, "rss_before": null}, "note": "", "samples": [{"at_s": 0.0, "audio_s": 8.0, "engine_s": 2.8, "first_audio_s": 0.7, "queue_s": 0.0, "total_s": 2.8099999999999996}, {"at_s": 1.0, "audio_s": 8.0, "engine_s": 2.808, "first_audio_s": 0.702, "queue_s": 0.0, "total_s": 2.8179999999999996}, {"at_s": 2.0, "audio_s": 8.0, "engine_s": 2.792, "first_audio_s": 0.698, "queue_s": 0.0, "total_s": 2.8019999999999996}], "started": "2026-01-02T00:00:00Z", "summary": {"engine_s": {"count": 3, "high": 2.808, "largest": 2.808, "low": 2.792, "mean": 2.7999999999999994, "median": 2.8, "p95": 2.8072, "smallest": 2.792, "spread": 0.0025714285714286056}, "first_audio_s": {"count": 3, "high": 0.702, "largest": 0.702, "low": 0.698, "mean": 0.6999999999999998, "median": 0.7, "p95": 0.7018, "smallest": 0.698, "spread": 0.0025714285714286056}, "rtf": {"count": 3, "high": 0.351, "largest": 0.351, "low": 0.349, "mean": 0.3499999999999999, "median": 0.35, "p95": 0.3509, "smallest": 0.349, "spread": 0.0025714285714286056}, "total_s": {"count": 3, "high": 2.8179999999999996, "largest": 2.8179999999999996, "low": 2.8019999999999996, "mean": 2.81, "median": 2.8099999999999996, "p95": 2.8171999999999997, "smallest": 2.8019999999999996, "spread": 0.0025622775800712085}}, "version": 1, "warm_up": 3, "workload": "M", "workload_key": "m-key"}');
CREATE INDEX runs_by_time ON runs (started);
COMMIT;
PRAGMA user_version = 2;
