import subprocess, pathlib
import pytest
import shim
from support.commands import command, lonely
@pytest.mark.parametrize("v",["1.2.4","2.2.1"])
def test_x(v,get_service,tmp_path):
    s=get_service(v)
    for cols in ("200",):
        d=subprocess.run(command("doctor","--base-url",s.base_url),capture_output=True,encoding="utf-8",env={**lonely(tmp_path),"COLUMNS":cols})
        pathlib.Path(f"/tmp/docs-evidence/doctor-{v}.txt").write_text(d.stdout+d.stderr)
    d=subprocess.run(command("doctor","--base-url",s.base_url),capture_output=True,encoding="utf-8",env=lonely(tmp_path))
    pathlib.Path(f"/tmp/docs-evidence/doctor-{v}-plain.txt").write_text(d.stdout+d.stderr)
    diagnosis = shim.doctor.diagnose(s.base_url)
    pathlib.Path(f"/tmp/docs-evidence/doctor-{v}-py.txt").write_text(repr((sorted(diagnosis.deviations),[f.probe for f in diagnosis.findings if f.without_shim not in ("", f.with_shim)])))
