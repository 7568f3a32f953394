#pragma once

#include <string>
#include <string_view>

#include "report/draw.h"
#include "report/picture.h"

namespace switchyard {

/// Colours by role, as "#rrggbb".
struct Colours {
  std::string_view text;
  std::string_view background;  ///< not of SVG, whose style sheet has it
  std::string_view grid;
};

struct Look {
  ImageFormat format = ImageFormat::svg;
  Width width = Width::wide;
  Colours colours;
};

/// The script that makes gnuplot draw the picture to its standard output. Text of the picture
/// stands in single quotes only, where gnuplot expands nothing.
std::string gnuplot_script(const Picture& picture, const Look& look);

}  // namespace switchyard
