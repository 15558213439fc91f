// How the search of the site orders its results: pages for users before those on the development of the project.
var Scorer = {
  score: ([page, , , , score]) => {
    if (/^(decisions\/|changelog$|architecture$|contributing$)/.test(page)) return score - 100;
    return /^reference\/(settings|columns)$/.test(page) ? score + 1 : score;
  },
  // The values below are Sphinx's own.
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
