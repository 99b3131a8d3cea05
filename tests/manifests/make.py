"""Writes the manifests of this folder as real programs write them (python3 with pandas, openpyxl and xlsxwriter; LibreOffice).

`python3 make.py` writes them anew; tests/it/manifests.rs says what is right for each.
"""

import csv
import gzip
import io
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path

import openpyxl
import pandas
import xlsxwriter
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont

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

# Workbooks. xlsxwriter writes shared strings and, for a formula, the value 0 until a spreadsheet computes it.
sheet = [["照片", "工号", "姓名", "入职"], ["a.jpg", "0001", "张三", datetime(2024, 3, 1)]]
workbook = openpyxl.Workbook()
workbook.active.title = "Staff"
for row in sheet:
    workbook.active.append(row)
cells = workbook.active
for number, shown in [(2, "00000"), (3, "General"), (4, "0"), (5, "@"), (123456789012345, "0")]:
    cells.append([f"{'abcdefgh'[cells.max_row - 1]}.jpg", number, "x", 12.5])
    cells.cell(cells.max_row, 2).number_format = shown
cells.append([])
cells.append(["h.jpg", CellRichText("E", TextBlock(InlineFont(b=True), "8")), "rich", True])
cells.row_dimensions[3].hidden = True
cells.merge_cells("F1:G1")
hidden = workbook.create_sheet("Old", 0)
hidden.sheet_state = "hidden"
hidden.append(["path", "merchant_user_id"])
hidden.append(["a.jpg", "old"])
workbook.save(HERE / "staff.xlsx")

faults = [
    (123456789012345678, "General"),
    (1234567, "#,##0"),
    (datetime(2024, 3, 1), "yyyy-mm-dd"),
    (True, "General"),
    ("#N/A", "General"),
    ("=A2", "General"),
    (" E7", "General"),
    ('=_xlfn.DISPIMG("ID_1",1)', "General"),
]
workbook = openpyxl.Workbook()
workbook.active.append(["path", "merchant_user_id"])
for value, shown in faults:
    workbook.active.append(["a.jpg", value])
    workbook.active.cell(workbook.active.max_row, 2).number_format = shown
workbook.save(HERE / "faults.xlsx")

workbook = xlsxwriter.Workbook(HERE / "xlsxwriter.xlsx", {"date_1904": True})
chart = workbook.add_chart({"type": "line"})
chart.add_series({"values": "=People!$B$3:$B$4"})
workbook.add_chartsheet("Chart").set_chart(chart)
cells = workbook.add_worksheet("People")
cells.write_row(0, 0, ["path", "merchant_user_id", "note", "joined"])
cells.write_row(2, 0, ["a.jpg", 7, "_x0041_ & <b>\nnext"])
cells.write_datetime(2, 3, datetime(2024, 3, 1, 6), workbook.add_format({"num_format": "d mmm"}))
cells.write_row(3, 0, ["b.jpg", "008"])
cells.write_string(4, 0, "c.jpg")
cells.write_formula(4, 1, '="E"&9', None, "E9")
cells.write_string(5, 0, "d.jpg")
cells.write_formula(5, 1, "=ROW()")
cells.write_string(6, 5, "a remark beside the table")
workbook.close()

# The same as a spreadsheet saves it: soffice --headless --convert-to xls|ods|xlsx staff.xlsx
for kind, name in [("xls", "staff.xls"), ("ods", "staff.ods"), ("xlsx:Calc MS Excel 2007 XML", "libreoffice.xlsx")]:
    with tempfile.TemporaryDirectory() as folder:
        command = ["soffice", "--headless", "--convert-to", kind, "--outdir", folder, str(HERE / "staff.xlsx")]
        subprocess.run(command, check=True)
        write(name, next(Path(folder).iterdir()).read_bytes())
