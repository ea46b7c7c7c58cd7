// Filters the rows while one types. Without it the form asks the server.
const input = document.getElementById("q");
const rows = Array.from(document.querySelectorAll("#credentials tbody tr"));
const texts = rows.map((row) =>
  [0, 2, 3].map((at) => row.cells[at].innerText).join(" ").toLowerCase());
input.addEventListener("input", () => {
  const needle = input.value.trim().toLowerCase();
  rows.forEach((row, at) => { row.hidden = !texts[at].includes(needle); });
});
