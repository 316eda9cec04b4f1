// Before anything is drawn, so that nothing flashes: the theme that was chosen here before, else the system's.
"use strict";
{
  const chosen = localStorage.getItem("harrier-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
}
