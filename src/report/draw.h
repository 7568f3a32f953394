#pragma once

#include <string>
#include <string_view>

#include "report/picture.h"

namespace switchyard {

enum class Theme {
  light,
  dark,
  automatic,  ///< SVG follows the reader's preference, PNG is light
};

/// "light", "dark" or "auto". Throws Error(invalid_argument) that lists them.
Theme theme_from_name(std::string_view name);

enum class Width {
  wide,    ///< for a page or a screen
  narrow,  ///< for a phone: the same content on 360 pixels
};

enum class ImageFormat { png, svg };

/// By the suffix. Throws Error(invalid_argument) unless it is .png or .svg.
ImageFormat image_format_of_path(std::string_view path);

/// The image's bytes, drawn by gnuplot. Colours are told apart by colour-blind eyes and stand out
/// from a light and from a dark page. An SVG stands alone: no fonts, scripts or files of others.
/// Throws Error(unavailable) when there is no gnuplot, Error(io) with gnuplot's words when it
/// fails.
std::string image_of(const Picture& picture, ImageFormat format, Theme theme = Theme::automatic,
                     Width width = Width::wide);

/// Throws Error(unavailable) when there is no gnuplot: to know before a long measurement.
void require_gnuplot();

/// Writes the image to a file whose suffix says its format; the file is replaced whole.
/// Throws as image_of and replace_file do.
void draw(const Picture& picture, const std::string& path, Theme theme = Theme::automatic);

}  // namespace switchyard
