// Order of search results: pages named after the query come first, guides before others, attributes of classes last.
// Sphinx calls `score` with [page, title, anchor, description, score, file name, kind] and sorts by its result.
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  score: function (result) {
    var query = (new URLSearchParams(window.location.search).get("q") || "").trim().toLowerCase();
    var title = result[1].toLowerCase();
    var words = title.split(/[^\p{L}\p{N}_-]+/u);
    var score = result[4];
    if (/^Python (attribute|property|data)/.test(result[3] || "")) score -= 15;
    else if (query && query.split(/\s+/).every((word) => words.includes(word))) score += /^Python/.test(result[3] || "") ? 10 : 20;
    if (result[0].startsWith("how-to/")) score += 3; // before tutorials and installation with the same words
    return result[0] === "reference/changelog" ? score - 20 : score;
  },
};
