"""Writes the manifests of this folder as real programs write them (python3 with pandas and openpyxl).

`python3 make.py` writes them anew; tests/it/manifests.rs says what is right for each.
"""

import csv
import gzip
import io
from pathlib import Path

import openpyxl
import pandas

HERE = Path(__file__).parent


def table(rows, **options):
    text = io.StringIO(newline="")
    csv.writer(text, **options).writerows(rows)
    return text.getvalue()


def write(name, content):
    (HERE / name).write_bytes(content)


people = [["Foto", "merchant_user_id", "Name"], ["a.jpg", "E1", "Müller"], ["b.jpg", "E2", "Zoë; the 2nd"]]
# Excel in German: "CSV (Trennzeichen-getrennt)", and "Unicode-Text".
write("excel-german.csv", table(people, delimiter=";").encode("cp1252"))
write("excel-unicode.csv", b"\xff\xfe" + table(people, dialect="excel-tab").encode("utf-16-le"))
# Export-Csv -Encoding utf8BOM of PowerShell, -UseQuotes Always; with a line that names the delimiter.
write("powershell.csv", ("sep=|\r\n" + table(people, delimiter="|", quoting=csv.QUOTE_ALL)).encode("utf-8-sig"))

chinese = [["照片", "工号", "姓名", "姓名"], ["a.jpg", "0001", "张三", "甲"], ["b.jpg", "0002", "李四", "乙"]]
write("chinese-gbk.csv", table(chinese).encode("gbk"))
write("chinese-gbk.csv.gz", gzip.compress(table(chinese).encode("gbk"), mtime=0) + bytes(512))

# A column of ids with one missing is a column of floats to pandas; its index has no name.
frame = pandas.DataFrame({"path": ["a.jpg", "b.jpg", "c.jpg"], "merchant_user_id": [1001, None, 1003]})
write("pandas.csv", frame.to_csv().encode())
write("pandas.json", frame.to_json(orient="records").encode())
write("pandas.jsonl", frame.to_json(orient="records", lines=True).encode())
write("pandas-nan.csv", frame.to_csv(index=False, na_rep="nan").encode())
write("pandas-array.jsonl", frame.to_json(orient="records", indent=1).encode())
write("web-page.csv", frame.to_html().encode())
strings = frame.astype({"merchant_user_id": "Int64"})
write("pandas-strings.json", strings.dropna().to_json(orient="records", indent=2).encode())

workbook = openpyxl.Workbook()
for row in people:
    workbook.active.append(row)
workbook.save(HERE / "workbook.csv")
