// Runs before the first paint, so that a chosen theme never flashes: "light", "dark", or nothing for the system's.
try {
  const chosen = localStorage.getItem("entrocraft-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch {
  // A browser that forbids storage follows the system.
}
